"""Four ways in which people answer a list of prompts with a model that a call blocks on, and the record of each.

They are written as they are found in the wild: a loop; a function that takes a list and loops inside, and is called a
batch for it; threads that take turns at a lock, since the model must not be entered twice; a padded batch. The fifth
way, a continuous batch, is a run of tokenmill and isn't here. Each attempt is measured by the same meter and kept in
the same shape as those of a run, so the same audit judges all of them.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from tokenmill.clock import Clock
from tokenmill.driver.acceptance import Acceptance, accept
from tokenmill.driver.attempt import Meter, answered
from tokenmill.engine.local.engine import seed_of
from tokenmill.engine.local.wire import Piece, Submit
from tokenmill.errors import EngineError
from tokenmill.event import Answer, Attempt
from tokenmill.request import Chunk, Completion, Request, Usage

if TYPE_CHECKING:
    from tokenmill.engine.local.session import Session


class Ledger:
    """What happened to each request, on one clock, as the driver of a run records it.

    A request counts as dispatched when its pipeline is handed it, whether or not the model turns to it then, and as
    finished with its last token. Threads may call it for different rows.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._dispatched: dict[int, float] = {}
        self._meters: dict[int, Meter] = {}
        self.attempts: list[Attempt] = []
        self.answers: dict[str, str] = {}
        self.failed: dict[str, int] = {}
        #: The last word on each row, for those who go on with it.
        self.words: dict[int, Answer | EngineError] = {}

    def hand(self, requests: Sequence[Request]) -> None:
        """These requests are in the pipeline's hands from now on."""
        now = self._clock.now()
        for request in requests:
            self._dispatched[request.row] = now
            self._meters[request.row] = Meter(lambda _: None, lambda *_: None)

    def add(self, request: Request, width: int, piece: Piece) -> None:
        """A pass of `width` sequences gave the request this piece; the last one makes the answer."""
        meter, now = self._meters[request.row], self._clock.now()
        meter.add(Chunk(piece.text, piece.tokens, width), now)
        if not piece.finish:
            return
        try:
            end = Completion(piece.finish, Usage(piece.prompt_tokens, piece.output_tokens))
            answer = accept(meter.answer(end), Acceptance())
        except EngineError as error:
            self.fail(request, error.kind, error.message)
            return
        self.answers[request.custom_id] = answer.text
        self.words[request.row] = answer
        self._keep(request, answered(self._tried(request, now), answer, now))

    def fail(self, request: Request, kind: str, message: str) -> None:
        """The request ends without an answer."""
        self.words[request.row] = EngineError(kind, message)
        self.failed[kind] = self.failed.get(kind, 0) + 1
        self._keep(request, self._tried(request, self._clock.now(), kind))

    def _tried(self, request: Request, now: float, kind: str = "") -> Attempt:
        """The attempt as it stands if no answer comes of it."""
        return Attempt(
            row=request.row,
            lease=0,
            node=0,
            session=0,
            outcome="failed",
            dispatched=self._dispatched[request.row],
            finished=now,
            kind=kind,
        )

    def _keep(self, request: Request, attempt: Attempt) -> None:
        del self._meters[request.row]
        self.attempts.append(attempt)


class Blocking:
    """A model as most libraries offer it: the call ends with the answer, and no second one may be made before that."""

    def __init__(self, session: Session, ledger: Ledger) -> None:
        self._session = session
        self.ledger = ledger
        self._keys = itertools.count()

    def generate(self, request: Request) -> str:
        """The answer; empty if the model refuses the request."""
        refused = self._session.submit(Submit(next(self._keys), request, seed_of(request)))
        if refused is not None:
            self.ledger.fail(request, refused.kind, refused.message)
            return ""
        text: list[str] = []
        while self._session.has_work:
            stepped = self._session.step()
            for piece in stepped.pieces:
                self.ledger.add(request, stepped.width, piece)
                text.append(piece.text)
        return "".join(text)


class Batches(Protocol):
    """Takes a list of requests and has the answers when it returns."""

    def generate(self, requests: Sequence[Request]) -> list[str]: ...


class Looping:
    """What calls itself a batch because it takes a list."""

    def __init__(self, model: Blocking) -> None:
        self._model = model

    def generate(self, requests: Sequence[Request]) -> list[str]:
        self._model.ledger.hand(requests)
        return [self._model.generate(request) for request in requests]


class Locked:
    """A model that threads take turns at."""

    def __init__(self, model: Blocking) -> None:
        self._model = model
        self._lock = threading.Lock()

    def generate(self, request: Request) -> str:
        self._model.ledger.hand([request])
        with self._lock:
            return self._model.generate(request)


def one_by_one(model: Blocking, requests: Sequence[Request]) -> list[str]:
    """One call after the other, and nothing promised beyond that."""
    answers = []
    for request in requests:
        model.ledger.hand([request])
        answers.append(model.generate(request))
    return answers


def in_groups(batch: Batches, requests: Sequence[Request], width: int) -> list[str]:
    """`width` requests at a time; a group begins when the one before it has ended."""
    return [answer for group in _groups(requests, width) for answer in batch.generate(group)]


def in_threads(model: Blocking, requests: Sequence[Request], width: int) -> list[str]:
    """`width` threads, each with a request of its own, and one lock around the model."""
    locked = Locked(model)
    return _at_once(locked.generate, requests, width)


def _at_once(answer: Callable[[Request], str], requests: Sequence[Request], width: int) -> list[str]:
    with ThreadPoolExecutor(width, "pipeline") as pool:
        return list(pool.map(answer, requests))


def _groups(requests: Sequence[Request], width: int) -> Iterator[Sequence[Request]]:
    for first in range(0, len(requests), width):
        yield requests[first : first + width]

"""The text of a row, read at dispatch: from the input by offset, or from the record for a row born during the run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from tokenmill.clock import Clock
from tokenmill.driver.options import Options, Settings
from tokenmill.engine.http.prompt import estimate
from tokenmill.errors import UsageError
from tokenmill.event import Answer, Arrived
from tokenmill.record.store import Record
from tokenmill.record.writer import Parameters
from tokenmill.request import Message, Request, Sampling
from tokenmill.workload import Reader, predict
from tokenmill.workload.faults import RowFault
from tokenmill.workload.layout import Layout, Row

if TYPE_CHECKING:
    from tokenmill.driver.sequel import Sequel

Birth = tuple[Arrived, tuple[str, Parameters]]
#: Called with each answered request and its answer; returns the rows that it gives rise to.
Follow = Callable[[Request, str], Iterable[str | dict[str, Any]]]


class Body(msgspec.Struct, frozen=True):
    """What the record keeps of a row born during the run."""

    prompt: str | None
    messages: tuple[Message, ...]
    sampling: Sampling
    raw: bool = False


class RowSource:
    """Makes requests of rows, with a seed for each that samples and has none of its own."""

    def __init__(self, record: Record, reader: Reader, options: Options, follow: Follow | None = None) -> None:
        self._record = record
        self._reader = reader
        self._options = options
        self._follow = follow
        self._next_row = record.next_numbers()[0]
        endpoint = reader.endpoint
        spec = replace(options.workload, template=None, prompt_column=None, id_column=None, endpoint=endpoint)
        self._born = Layout(spec, "jsonl")

    def fetch(self, row: int) -> Request:
        place = self._record.place(row)
        if place.body is None:
            request = self._reader.request(row, place.custom_id, place.offset, place.length, place.line)
        else:
            body = msgspec.json.decode(place.body, type=Body)
            request = Request(
                row=row,
                custom_id=place.custom_id,
                prompt=body.prompt,
                messages=body.messages,
                sampling=body.sampling,
                raw=body.raw,
            )
        sampling = request.sampling
        if sampling.temperature > 0 and sampling.seed is None:
            seed = derived_seed(self._options.seed, request.custom_id)
            return replace(request, sampling=replace(sampling, seed=seed))
        return request

    def sequel(self, settings: Settings, clock: Clock, session: int) -> Sequel | None:
        """What goes on with the stories of a run with a recipe."""
        if self._options.pipeline is None:
            return None
        from tokenmill.driver.pipeline import judging_of

        return judging_of(self._options, settings, self._record.path, self._reader, clock, session)

    def longest(self) -> int:
        """About the tokens of the longest prompt that waits, by its bytes; 0 if none does."""
        row = self._record.longest()
        return 0 if row is None else estimate(self.fetch(row))

    def follow(self, row: int, answer: Answer, now: float) -> Iterable[Birth]:
        """Rows born of an answer, numbered after all others; their ids are derived from their parent's."""
        if self._follow is None:
            return []
        parent = self._record.place(row)
        births = []
        for index, given in enumerate(self._follow(self.fetch(row), answer.text)):
            data: dict[str, object] = {"prompt": given} if isinstance(given, str) else dict(given)
            role = str(data.pop("role", ""))
            try:
                born = self._born.row(data, self._born.custom_id(data))
            except RowFault as fault:
                raise UsageError(f"row born of {parent.custom_id!r}: {fault}") from fault
            births.append(self._birth(born, parent.row, parent.round + 1, role, f"{parent.custom_id}.{index + 1}", now))
        return births

    def _birth(self, born: Row, parent: int, turn: int, role: str, derived: str, now: float) -> Birth:
        number, self._next_row = self._next_row, self._next_row + 1
        length = predict(born.asked, born.sampling.max_tokens)
        body = msgspec.json.encode(Body(born.prompt, born.messages, born.sampling, born.raw))
        values = (number, born.custom_id or derived, 0, 0, 0, length, 0, parent, turn, role, body)
        return Arrived(now, number, length, 0), ("request", values)


def derived_seed(seed: int, custom_id: str) -> int:
    """A seed in [0, 2**63) from the run's seed and the row's id, the same on every machine."""
    digest = hashlib.blake2b(f"{seed}:{custom_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1

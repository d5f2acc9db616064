"""One try of one request: consume what the engine yields, measure it, and end with an answer or an `EngineError`.

An attempt without an answer may cost as much as one with it: the server read the prompt, and wrote until we left. What
is known of that is the usage, if the answer came to its end and was not accepted. Else it is estimated: the prompt by
its length, and a token for each chunk that came. Only a request that the node turned away costs nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

from msgspec.structs import replace

from tokenmill.clock import Clock
from tokenmill.engine import Engine
from tokenmill.engine.http.prompt import estimate
from tokenmill.errors import EngineError
from tokenmill.event import NODE_KINDS, Answer, Attempt, Cancelled, Failed, Finished
from tokenmill.request import Chunk, Completion, Request, Usage

#: What a request costs that was never sent, or was turned away.
NOTHING = Usage(0, 0)
#: Failures by which a node turns a request away, if they come before any text.
REFUSALS = (*NODE_KINDS, "too_long", "refused", "cut")


class Meter:
    """Running sums over the chunks of one answer, so that tokens never become events.

    `begun` is called with the time of the first text, `paced` with time and number of chunks at 2 of them and at each
    doubling.
    """

    __slots__ = (
        "begun",
        "chunks",
        "first",
        "itl_max",
        "itl_sum",
        "last",
        "paced",
        "pieces",
        "request",
        "tokens",
        "usage",
        "weighted",
        "width_max",
    )

    def __init__(self, begun: Callable[[float], None], paced: Callable[[float, int], None]) -> None:
        self.begun, self.paced = begun, paced
        self.pieces: list[str] = []
        self.first: float | None = None
        self.last = 0.0
        self.itl_sum = self.itl_max = 0.0
        self.chunks = self.tokens = self.weighted = self.width_max = 0
        self.request: Request | None = None  # once it was handed to the engine
        self.usage: Usage | None = None  # once the engine has told it

    def add(self, chunk: Chunk, now: float) -> None:
        if self.first is None:
            if chunk.text:
                self.first = now
                self.begun(now)
        else:
            gap = now - self.last
            self.itl_sum += gap
            if gap > self.itl_max:
                self.itl_max = gap
        self.last = now
        self.chunks += 1
        if self.chunks & (self.chunks - 1) == 0 and self.chunks > 1:
            self.paced(now, self.chunks)
        self.tokens += chunk.tokens
        self.weighted += chunk.tokens * chunk.step_width
        if chunk.step_width > self.width_max:
            self.width_max = chunk.step_width
        self.pieces.append(chunk.text)

    def cost(self, error: EngineError | None = None) -> Usage:
        """What the attempt has cost so far; `error` is what ended it, None if we did."""
        if self.usage is not None:
            return self.usage
        is_refused = error is not None and (error.status is not None or error.kind in REFUSALS)
        if self.request is None or (is_refused and not self.chunks):
            return NOTHING
        return Usage(estimate(self.request), self.tokens)

    def answer(self, end: Completion) -> Answer:
        self.usage = end.usage
        return Answer(
            text="".join(self.pieces),
            finish_reason=end.finish_reason,
            prompt_tokens=end.usage.prompt_tokens,
            output_tokens=end.usage.output_tokens,
            flags=end.flags,
            first_token=self.first,
            itl_sum=self.itl_sum,
            itl_max=self.itl_max,
            chunks=self.chunks,
            width_mean=self.weighted / self.tokens if self.tokens else 0.0,
            width_max=self.width_max,
            rate=end.rate,
        )


def answered(tried: Attempt, answer: Answer, finished: float) -> Attempt:
    """What was tried, ended at `finished` with an answer, and what was measured of it."""
    return replace(
        tried,
        outcome="answered",
        finished=finished,
        first_token=answer.first_token,
        prompt_tokens=answer.prompt_tokens,
        output_tokens=answer.output_tokens,
        itl_sum=answer.itl_sum,
        itl_max=answer.itl_max,
        chunks=answer.chunks,
        width_mean=answer.width_mean,
        width_max=answer.width_max,
    )


def used_by(event: Finished | Failed | Cancelled) -> Usage | None:
    """What an attempt cost, however it ended."""
    if isinstance(event, Finished):
        return Usage(event.answer.prompt_tokens, event.answer.output_tokens)
    return event.used


async def attempt(engine: Engine, request: Request, clock: Clock, meter: Meter) -> Answer:
    """Runs one request to its end; leaving early, by error or cancellation, closes the engine's stream.

    Raises:
        EngineError: the engine failed the request, or its stream ended without a completion.
    """
    meter.request = request
    parts = cast(AsyncGenerator[Chunk | Completion, None], engine.generate(request))
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, Chunk):
                meter.add(part, clock.now())
            else:
                return meter.answer(part)
    raise EngineError("transient", "the stream ended without a completion")

"""One try of one request: consume what the engine yields, measure it, and end with an answer or an `EngineError`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

from tokenmill.clock import Clock
from tokenmill.engine import Engine
from tokenmill.errors import EngineError
from tokenmill.event import Answer
from tokenmill.request import Chunk, Completion, Request


class Meter:
    """Running sums over the chunks of one answer, so that tokens never become events."""

    __slots__ = (
        "begun",
        "chunks",
        "first",
        "itl_max",
        "itl_sum",
        "last",
        "paced",
        "pieces",
        "tokens",
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

    def answer(self, end: Completion) -> Answer:
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


async def attempt(
    engine: Engine,
    request: Request,
    clock: Clock,
    begun: Callable[[float], None],
    paced: Callable[[float, int], None],
) -> Answer:
    """Runs one request to its end; leaving early, by error or cancellation, closes the engine's stream.

    `begun` is called with the time of the first text, `paced` with time and number of chunks at 2 of them and at each
    doubling.

    Raises:
        EngineError: the engine failed the request, or its stream ended without a completion.
    """
    meter = Meter(begun, paced)
    parts = cast(AsyncGenerator[Chunk | Completion, None], engine.generate(request))
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, Chunk):
                meter.add(part, clock.now())
            else:
                return meter.answer(part)
    raise EngineError("transient", "the stream ended without a completion")

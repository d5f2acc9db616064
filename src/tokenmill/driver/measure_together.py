"""Measures nodes that may share a device alone and together, with short requests of its own instead of a run's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from math import inf
from random import Random
from typing import cast

from tokenmill.engine import Engine
from tokenmill.errors import EngineError
from tokenmill.request import Chunk, Completion, Request, Sampling
from tokenmill.schedule.trial import Trial, Verdict

#: Long enough that most of a request is writing.
TOKENS = 48
#: Each begins differently, so that no answer comes out of a cache.
PROMPT = "Count from {number} upwards, one number after the other."


async def measure(engines: Sequence[Engine], widths: Sequence[int], seed: int = 0) -> Verdict:
    """Keeps `widths` requests in flight on each of the engines at work, which are open, until a trial has its verdict.

    Raises:
        EngineError: a request failed, so that nothing can be said.
    """
    rounds = _Rounds(engines, widths, Random(seed))
    try:
        return await rounds.verdict()
    finally:
        await rounds.close()


class _Rounds:
    """The requests in flight, and the trial that watches them; `_where` is the node of each."""

    def __init__(self, engines: Sequence[Engine], widths: Sequence[int], random: Random) -> None:
        self._engines = engines
        self._widths = widths
        self._random = random
        self._trial = Trial(range(len(engines)))
        self._where: dict[asyncio.Task[None], int] = {}
        self._rows = 0

    async def verdict(self) -> Verdict:
        while self._trial.verdict is None:
            for node in self._trial.active:
                while sum(where == node for where in self._where.values()) < self._widths[node]:
                    self._send(node)
            done, _ = await asyncio.wait(self._where, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                del self._where[attempt]
                attempt.result()
        return self._trial.verdict

    async def close(self) -> None:
        """Ends what is in flight, which nobody needs."""
        for attempt in self._where:
            attempt.cancel()
        await asyncio.gather(*self._where, return_exceptions=True)

    def _send(self, node: int) -> None:
        row, self._rows = self._rows, self._rows + 1
        request = Request(
            row=row,
            custom_id=f"together-{row}",
            prompt=PROMPT.format(number=self._random.randrange(1_000_000)),
            sampling=Sampling(max_tokens=TOKENS),
        )
        self._trial.sent(row, node, asyncio.get_running_loop().time())
        self._where[asyncio.create_task(self._follow(request, self._engines[node]))] = node

    async def _follow(self, request: Request, engine: Engine) -> None:
        now = asyncio.get_running_loop().time
        parts = cast(AsyncGenerator[Chunk | Completion, None], engine.generate(request))
        chunks = tokens = 0
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Completion):
                    tokens = part.usage.output_tokens
                    continue
                chunks += 1
                if chunks == 1:
                    self._trial.first_token(request.row, now())
                else:
                    self._trial.paced(request.row, now(), chunks)
        if not (chunks or tokens):
            raise EngineError("transient", "it gave an empty answer, which can't be measured")
        self._trial.ended(request.row, now(), float(chunks or tokens), inf)

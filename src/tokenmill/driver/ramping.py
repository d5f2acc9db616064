"""Carries out a ramp: sends bursts of short requests to one engine and measures when each answer began and ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from tokenmill.engine import Engine
from tokenmill.errors import EngineError
from tokenmill.plan.ramp import TOKENS, Burst, Ramp, Shot
from tokenmill.request import Chunk, Completion, Request, Sampling

#: Each ends differently, so that no answer comes out of a cache.
PROMPT = "Count from {number} upwards, one number after the other."


async def ramped(engine: Engine, ramp: Ramp) -> None:
    """Sends what the ramp asks for until it has seen enough. One request beforehand warms the server up.

    Raises:
        EngineError: a request failed for another reason than that the server had too many.
    """
    number = 0
    while ramp.width is not None:
        width = ramp.width
        if not number:
            await _burst(engine, [number])
            number += 1
        ramp.add(await _burst(engine, range(number, number + width)))
        number += width


async def _burst(engine: Engine, numbers: range | list[int]) -> Burst:
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with asyncio.TaskGroup() as group:
        attempts = [group.create_task(_shot(engine, number, start)) for number in numbers]
    ends = [attempt.result() for attempt in attempts]
    for end in ends:
        if isinstance(end, EngineError) and end.kind != "busy":
            raise end
    shots = tuple(end for end in ends if isinstance(end, Shot))
    return Burst(shots, refused=len(ends) - len(shots))


async def _shot(engine: Engine, number: int, start: float) -> Shot | EngineError:
    """One answer; a failure is returned, so that the other requests of the burst end on their own."""
    request = Request(
        row=number,
        custom_id=f"ramp-{number}",
        prompt=PROMPT.format(number=number),
        sampling=Sampling(max_tokens=TOKENS),
    )
    now = asyncio.get_running_loop().time
    first, last, tokens = None, 0.0, 0
    try:
        parts = cast(AsyncGenerator[Chunk | Completion, None], engine.generate(request))
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Completion):
                    tokens = part.usage.output_tokens
                    continue
                last = now()
                first = last if first is None else first
    except EngineError as error:
        return error
    if first is None:
        return Shot(0.0, now() - start, 0)
    return Shot(first - start, last - start, tokens)

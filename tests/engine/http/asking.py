"""Engines of a served node, asked within one short event loop, for the stories of this folder."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

import pytest

from tokenmill.cluster import EngineOptions, Node
from tokenmill.engine.http.clocks import Clocks
from tokenmill.engine.http.engine import ServerEngine
from tokenmill.errors import EngineError
from tokenmill.request import Chunk, Completion, Request, Sampling
from tokenmill.testing import FaultServer, State

T = TypeVar("T")
#: Clocks short enough for a story and long enough for a busy machine.
QUICK = Clocks(connect=5.0, first_token=0.3, gap=0.3, whole=20.0)
PATIENT = Clocks(connect=5.0, first_token=20.0, gap=20.0, whole=20.0)
APIS = ("ollama", "openai")


def node_at(url: str, kind: str = "openai", **fields: Any) -> Node:
    return Node(name=f"{kind}-0", engine=kind, target=url, **fields)


def engine_at(
    url: str,
    kind: str = "openai",
    *,
    clocks: Clocks = PATIENT,
    environment: Mapping[str, str] | None = None,
    key: str | None = None,
    **options: Any,
) -> ServerEngine:
    node = node_at(url, kind, key=key)
    return ServerEngine(node, EngineOptions(**options), clocks=clocks, environment=environment or {})


def ask(prompt: str = "Say a few words.", row: int = 0, **sampling: Any) -> Request:
    return Request(row=row, custom_id=f"id-{row}", prompt=prompt, sampling=Sampling(**sampling))


async def answer(engine: ServerEngine, request: Request | None = None) -> tuple[str, Completion]:
    """The text and the completion, which must come last and once."""
    texts: list[str] = []
    end: Completion | None = None
    async with aclosing(engine.generate(request or ask())) as parts:
        async for part in parts:
            assert end is None
            if isinstance(part, Chunk):
                texts.append(part.text)
            else:
                end = part
    assert end is not None
    return "".join(texts), end


async def tell_in(engine: ServerEngine, body: Callable[[ServerEngine], Awaitable[T]]) -> T:
    """What `body` makes of the opened engine, within a loop that runs."""
    await engine.open()
    try:
        return await body(engine)
    finally:
        await engine.close()


def tell(engine: ServerEngine, body: Callable[[ServerEngine], Awaitable[T]]) -> T:
    """As `tell_in`, in a loop of its own."""
    return asyncio.run(tell_in(engine, body))


async def failure(engine: ServerEngine, request: Request | None = None) -> EngineError:
    """The error that a request ends with."""
    with pytest.raises(EngineError) as caught:
        await answer(engine, request)
    return caught.value


def failure_of(engine: ServerEngine, request: Request | None = None) -> EngineError:
    """As `failure`, for an engine that isn't open yet."""

    async def body(engine: ServerEngine) -> EngineError:
        return await failure(engine, request)

    return tell(engine, body)


def settled(server: FaultServer) -> State:
    """What the server saw once nothing runs there any more."""
    for _ in range(2000):  # each look is a request, which takes the server a moment
        state = server.state()
        if state.running == state.waiting == 0:
            return state
    raise AssertionError(f"{state.running} still running, {state.waiting} waiting")

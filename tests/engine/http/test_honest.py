"""A true model behind HTTP: our own engine in the fault server's honest mode, against the engine itself."""

from __future__ import annotations

import asyncio

from engine.http.asking import answer, ask, engine_at, node_at, tell
from tokenmill.cluster import EngineOptions
from tokenmill.engine.http.engine import ServerEngine
from tokenmill.engine.local.engine import LocalEngine
from tokenmill.request import Completion
from tokenmill.testing import Behaviour, FaultServer

PROMPTS = [f"Give me {count} sentences about the University of Chicago" for count in (2, 3, 1)]
REQUESTS = [ask(prompt, row, max_tokens=200) for row, prompt in enumerate(PROMPTS)]


async def without_http() -> list[tuple[str, Completion]]:
    engine = LocalEngine(node_at("demo", "local"), EngineOptions(slots=2, threads=1, kv_memory=64 << 20))
    await engine.open()
    found = []
    try:
        for request in REQUESTS:
            parts = [part async for part in engine.generate(request)]
            end = parts.pop()
            assert isinstance(end, Completion)
            found.append(("".join(part.text for part in parts if not isinstance(part, Completion)), end))
    finally:
        await engine.close()
    return found


def test_a_real_model_answers_as_without_http(api: str) -> None:
    """Text, finish reason and usage that come over either API are those of the engine behind it."""

    async def body(engine: ServerEngine) -> list[tuple[str, Completion]]:
        return [await answer(engine, request) for request in REQUESTS]

    with FaultServer(Behaviour(slots=2, honest="local:demo")) as server:
        assert tell(engine_at(server.url, api), body) == asyncio.run(without_http())

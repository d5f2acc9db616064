"""What every engine keeps: one completion, its own answer for each, limits, cancellation, a second life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from tokenmill.cluster import Node
from tokenmill.driver.options import Options, Settings, make_engine
from tokenmill.engine import Engine
from tokenmill.errors import EngineError
from tokenmill.request import Chunk, Completion, Message, Request, Sampling
from tokenmill.testing import Behaviour, FaultServer
from tokenmill.workload import Spec

NODES = {
    "scripted": Node(name="scripted-0", engine="scripted", target=""),
    "local": Node(name="local-0", engine="local", target="demo"),
}
SERVED = ("ollama", "openai", "http")
PROMPTS = [f"Give me {n} sentences about the University of Chicago" for n in (3, 2, 5, 4, 6, 2)]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with FaultServer(Behaviour(slots=2)) as server:
        yield server.url


@pytest.fixture(params=(*NODES, *SERVED))
def node(request: pytest.FixtureRequest) -> Node:
    if request.param in NODES:
        return NODES[request.param]
    url: str = request.getfixturevalue("url")
    return Node(name=f"{request.param}-0", engine=request.param, target=url)


@asynccontextmanager
async def opened(node: Node) -> AsyncIterator[Engine]:
    options = Options(workload=Spec(source="-"))
    engine = make_engine(node, options, Settings(slots=2, threads=1, kv_memory=64 << 20))
    try:
        await engine.open()
        yield engine
    finally:
        await engine.close()


def ask(prompt: str, row: int = 0, **sampling: Any) -> Request:
    return Request(row=row, custom_id=f"id-{row}", prompt=prompt, sampling=Sampling(**sampling))


async def answer(engine: Engine, request: Request) -> tuple[str, list[Chunk], Completion]:
    chunks: list[Chunk] = []
    ends: list[Completion] = []
    async for part in engine.generate(request):
        assert not ends, "nothing may follow the completion"
        if isinstance(part, Chunk):
            chunks.append(part)
        else:
            ends.append(part)
    (end,) = ends
    return "".join(chunk.text for chunk in chunks), chunks, end


def story(node: Node, body: Callable[[Engine], Awaitable[None]]) -> None:
    async def tell() -> None:
        async with opened(node) as engine:
            await body(engine)

    asyncio.run(tell())


def test_a_survey_needs_no_opening(node: Node) -> None:
    """Facts and token counts are there before anything is loaded, and opening confirms them."""

    async def tell() -> None:
        engine = make_engine(node, Options(workload=Spec(source="-")), Settings(slots=2, kv_memory=64 << 20))
        before = engine.survey()
        assert engine.count(ask("two words")) > 0
        try:
            assert await engine.open() == before
        finally:
            await engine.close()
        assert (before.slots, bool(before.digest), bool(before.model)) == (2, True, True)

    asyncio.run(tell())


def test_an_answer_ends_in_one_completion(node: Node) -> None:
    """Chunks add up to the tokens of the completion, and prompt tokens are those counted before, if it can count."""

    async def body(engine: Engine) -> None:
        request = ask(PROMPTS[0])
        text, chunks, end = await answer(engine, request)
        assert text.strip()
        assert end.finish_reason == "stop"
        assert sum(chunk.tokens for chunk in chunks) == end.usage.output_tokens
        if engine.survey().counts_exactly:
            assert end.usage.prompt_tokens == engine.count(request)

    story(node, body)


def test_each_gets_its_own_answer(node: Node) -> None:
    """Many at once, more than slots, are answered as each would be alone."""

    async def body(engine: Engine) -> None:
        requests = [ask(prompt, row) for row, prompt in enumerate(PROMPTS)]
        together = await asyncio.gather(*(answer(engine, request) for request in requests))
        alone = [await answer(engine, request) for request in requests]
        assert [text for text, _, _ in together] == [text for text, _, _ in alone]

    story(node, body)


def test_messages_are_answered_too(node: Node) -> None:
    """A conversation of one user's message is the same as its prompt."""

    async def body(engine: Engine) -> None:
        request = Request(row=0, custom_id="m", messages=(Message("user", PROMPTS[1]),))
        assert (await answer(engine, request))[0] == (await answer(engine, ask(PROMPTS[1])))[0]

    story(node, body)


def test_the_limit_holds(node: Node) -> None:
    """No answer is longer than max_tokens, and one that was cut says so."""

    async def body(engine: Engine) -> None:
        _, chunks, end = await answer(engine, ask(PROMPTS[2], max_tokens=3))
        assert end.finish_reason == "length"
        assert end.usage.output_tokens == sum(chunk.tokens for chunk in chunks) == 3

    story(node, body)


def test_leaving_early_frees_the_slot(node: Node) -> None:
    """Streams that are closed after their first chunk don't keep others waiting."""

    async def body(engine: Engine) -> None:
        for row in range(6):
            async with aclosing(engine.generate(ask(PROMPTS[2], row))) as parts:  # type: ignore[type-var]
                await anext(parts)
        assert (await answer(engine, ask(PROMPTS[1], 9)))[2].finish_reason == "stop"

    story(node, body)


def test_closed_and_opened_again(node: Node) -> None:
    """A closed engine fails requests as a crash would; opened again it answers as before."""

    async def body(engine: Engine) -> None:
        before = await answer(engine, ask(PROMPTS[0]))
        await engine.close()
        with pytest.raises(EngineError) as caught:
            await answer(engine, ask(PROMPTS[0]))
        assert caught.value.kind == "crash"
        await engine.open()
        assert (await answer(engine, ask(PROMPTS[0])))[0] == before[0]

    story(node, body)


def test_a_probe_makes_tokens_move(node: Node) -> None:
    """An open engine answers a probe; a closed one fails it, as it would a request."""

    async def body(engine: Engine) -> None:
        await engine.probe()
        await engine.close()
        with pytest.raises(EngineError) as caught:
            await engine.probe()
        assert caught.value.kind == "crash"

    story(node, body)

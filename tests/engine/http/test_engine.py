"""The engine of a served node: surveys, detection, what is pinned for a run, and what a server is told."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest

from engine.http.asking import QUICK, answer, ask, engine_at, failure, tell
from engine.http.raw import RawServer
from tokenmill.cluster import EngineOptions, Node
from tokenmill.engine.http.dialect import Model
from tokenmill.engine.http.engine import ServerEngine
from tokenmill.engine.http.ollama import Ollama, placement_of
from tokenmill.engine.http.openai import OpenAI
from tokenmill.errors import EngineError, UsageError
from tokenmill.request import RateSeen
from tokenmill.testing import Behaviour, FaultServer, Silent, Status

MODEL = Model(name="m", digest="d")


def test_a_survey_inside_a_running_loop(server: FaultServer, api: str) -> None:
    """A survey works where an event loop runs already, as in a notebook, and leaves no thread behind."""

    async def notebook() -> str:
        return engine_at(server.url, api).survey().model

    before = threading.active_count()

    assert asyncio.run(notebook()) == "llama3.2:latest"
    assert threading.active_count() == before


def test_what_a_bare_url_speaks(server: FaultServer) -> None:
    """A server that tells Ollama's version is asked natively, another that lists models as OpenAI's API."""
    with FaultServer(Behaviour(apis=("openai",))) as other:
        both = engine_at(server.url, "http").survey()
        one = engine_at(other.url, "http").survey()

    assert both.digest.startswith("ollama-")
    assert one.digest.startswith("openai-")


def test_facts(server: FaultServer) -> None:
    """What is known of a node: model, digest, context, place, version; host and device unless the node names them."""
    engine = engine_at(server.url, "ollama", slots=3)
    facts = engine.survey()
    named = Node(name="n", engine="ollama", target=server.url, host="box", device="gpu-1")
    said = ServerEngine(named, EngineOptions(), environment={}).survey()

    assert (facts.model, facts.slots, facts.look_ahead, facts.counts_exactly) == ("llama3.2:latest", 3, 0, False)
    assert (facts.context, facts.placement, facts.version) == (4096, "GPU", "0.12.6")
    assert (facts.host, facts.device) == ("127.0.0.1", server.url.removeprefix("http://"))
    assert (said.host, said.device, said.slots) == ("box", "gpu-1", 4)


@pytest.mark.parametrize(("slots"), [0, -3])
def test_slots_must_be_some(slots: int) -> None:
    """A node without slots is refused."""
    with pytest.raises(UsageError, match=f"slots is {slots}; give at least 1"):
        engine_at("http://a:1", slots=slots)


def test_spill_is_told() -> None:
    """Where the weights lie is told in words, with the share that found room on the GPU."""
    assert [placement_of(100, fast) for fast in (100, 62, 0, None)] == ["GPU", "62% GPU, spilled to CPU", "CPU", ""]
    assert placement_of(None, 5) == ""


def test_one_context_for_the_run() -> None:
    """All requests of a run ask Ollama for one context, so it never loads the model again."""
    with FaultServer(Behaviour(load=0.3, default_context=2048)) as server:

        async def body(engine: ServerEngine) -> list[tuple[str, ...]]:
            return [(await answer(engine, ask(row=row)))[1].flags for row in range(4)]

        for context in (None, 4000, None):
            loads = server.state().loads
            flags = tell(engine_at(server.url, "ollama", context=context), body)
            assert flags == [()] * 4
            assert server.state().loads <= loads + 1


def test_a_context_the_model_has_not() -> None:
    """A context larger than what the model was loaded with is refused, with what it has."""
    words = "context is 9000, and the model was loaded with 2048; give --context 2048"
    with FaultServer(Behaviour(context=2048, default_context=2048)) as server, pytest.raises(UsageError, match=words):
        asyncio.run(engine_at(server.url, "ollama", context=9000).open())


def test_what_ollama_is_told() -> None:
    """The native API is asked never to cut or shift, and told sampling, limit, seed and context."""
    node = Node(name="n", engine="ollama", target="http://a:1")
    dialect = Ollama(node, EngineOptions(context=1024))
    request = ask("Hi", temperature=0.5, top_p=0.9, top_k=7, max_tokens=11, seed=3, stop=("END",))

    path, body = dialect.encode(request, MODEL)
    sent = msgspec.json.decode(body)

    assert path == "/api/chat"
    assert (sent["truncate"], sent["shift"], sent["stream"]) == (False, False, True)
    assert sent["messages"] == [{"role": "user", "content": "Hi"}]
    assert sent["options"] == {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "num_predict": 11,
        "seed": 3,
        "stop": ["END"],
        "num_ctx": 1024,
    }


def test_what_openai_is_told() -> None:
    """The other API is asked for usage, and told what it knows; its own servers know the limit by another name."""
    request = ask("Hi", top_p=0.9, max_tokens=11, seed=3)
    node = Node(name="n", engine="openai", target="http://a:1")
    bodies = [
        msgspec.json.decode(OpenAI(node, EngineOptions(), origin).encode(request, MODEL)[1])
        for origin in ("http://a:1", "https://api.openai.com")
    ]

    assert bodies[0]["stream_options"] == {"include_usage": True}
    assert (bodies[0]["max_tokens"], bodies[0]["top_p"], bodies[0]["seed"]) == (11, 0.9, 3)
    assert "top_k" not in bodies[0]
    assert (bodies[1]["max_completion_tokens"], "max_tokens" in bodies[1]) == (11, False)


def test_rate_limits_are_told() -> None:
    """What a hosted server's headers say of its limits comes with each completion."""
    with FaultServer(Behaviour(apis=("openai",), requests_per_minute=60, tokens_per_minute=9000)) as server:
        rate = tell(engine_at(server.url), answer)[1].rate

    assert isinstance(rate, RateSeen)
    assert (rate.requests, rate.tokens) == (60, 9000)
    assert rate.requests_left is not None
    assert rate.requests_left < 60


@pytest.mark.parametrize("silent", [False, True], ids=["half", "unanswered"])
def test_closing_fails_what_is_in_flight(api: str, silent: bool) -> None:
    """Requests in flight, half answered or not at all, fail as after a crash when the engine is closed."""
    with FaultServer(Behaviour(rate=2.0, fault=(Silent(),) if silent else ())) as server:

        async def story() -> EngineError:
            engine = engine_at(server.url, api)
            await engine.open()
            parts = engine.generate(ask("Give me 9 sentences about rivers"))
            if not silent:
                await anext(parts)
            rest = asyncio.ensure_future(anext(parts))
            while silent and not (await asyncio.to_thread(server.state)).running:
                pass  # each look takes the server a moment
            await asyncio.sleep(0)
            await engine.close()
            with pytest.raises(EngineError) as caught:
                await asyncio.wait_for(rest, 5.0)
            return caught.value

        assert asyncio.run(story()).kind == "crash"


def test_opened_once_more_and_twice(server: FaultServer, api: str) -> None:
    """Opening an open engine changes nothing, and an engine can be opened in another loop after it was closed."""
    engine = engine_at(server.url, api)

    async def story() -> str:
        assert await engine.open() == await engine.open()
        text = (await answer(engine))[0]
        await engine.close()
        await engine.close()
        return text

    assert asyncio.run(story()) == asyncio.run(story())


def test_connections_are_kept(server: FaultServer, api: str) -> None:
    """Answers that follow each other share a connection."""

    async def body(engine: ServerEngine) -> int:
        await answer(engine)
        before = server.state().connections_made
        for row in range(5):
            await answer(engine, ask(row=row))
        return server.state().connections_made - before

    looks = 2  # the control path is asked over a new connection each time
    assert tell(engine_at(server.url, api), body) <= looks


def test_requests_have_names_of_their_own() -> None:
    """Every request carries a name that no other has, by which an echo is recognised."""

    async def story() -> list[bytes]:
        async with RawServer() as server:
            engine = engine_at(server.url, clocks=QUICK)
            await engine.open()
            for _ in range(3):
                await answer(engine)
            await engine.close()
            return [head for head in server.heads if head.startswith(b"POST")]

    names = [
        next(line for line in head.split(b"\r\n") if line.startswith(b"X-Request-Id")) for head in asyncio.run(story())
    ]

    assert len(set(names)) == 3


def test_not_open_is_a_crash(api: str) -> None:
    """An engine that isn't open fails requests as one that died, so the driver opens it."""

    async def story() -> EngineError:
        return await failure(engine_at("http://127.0.0.1:9", api))

    assert asyncio.run(story()).kind == "crash"


@pytest.mark.parametrize("status", [404, 500])
def test_a_named_model_needs_no_list(status: int) -> None:
    """A node that has no list of models, or fails to make one, is asked for a token of the model that was named."""
    fault = Status(status=status, path="models")
    with FaultServer(Behaviour(fault=(fault,))) as server:
        assert tell(engine_at(server.url, model="llama3.2:latest"), answer)[1].finish_reason == "stop"


def test_a_refusal_that_speaks_of_a_missing_list_is_none() -> None:
    """What counts is the status, whatever the node's own words say."""
    fault = Status(status=401, message="HTTP 404", path="models")
    with FaultServer(Behaviour(fault=(fault,))) as server, pytest.raises(UsageError, match="HTTP 401"):
        engine_at(server.url, model="llama3.2:latest").survey()

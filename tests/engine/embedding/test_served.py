"""Vectors of a served model: order, batches, what is asked again, and what is never believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tokenmill.cluster import Node
from tokenmill.engine.embedding import EmbedderFacts, EmbedderOptions, make_embedder
from tokenmill.engine.http.clocks import Clocks
from tokenmill.engine.http.embeddings import Patience, ServerEmbedder
from tokenmill.errors import EngineError, NodeUnreachable, UsageError
from tokenmill.testing import (
    AnyFault,
    Behaviour,
    Body,
    Close,
    FaultServer,
    GzipBomb,
    HugeBody,
    Redirect,
    Reset,
    Silent,
    Status,
    Vectors,
    WrongLength,
)
from tokenmill.testing.embedding import vector_of

KINDS = ("ollama", "openai")
PATIENT = Clocks(connect=5.0, first_token=20.0, gap=20.0, whole=20.0)
SOON = Patience(attempts=3, first=0.001, most=0.001)
#: To the first two attempts at one of the batches.
ONE_TWICE: dict[str, Any] = {"times": 2, "match": r"building 9\b"}
TEXTS = [f"turn left at building {number}" for number in range(50)]


@pytest.fixture(scope="module")
def running() -> Iterator[FaultServer]:
    with FaultServer(Behaviour(slots=2, dimensions=24)) as server:
        yield server


@pytest.fixture
def server(running: FaultServer) -> Iterator[FaultServer]:
    yield running
    running.behave(fault=(), dimensions=24, context=8192, default_context=4096, key=None, models=("llama3.2:latest",))
    running.forget()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def embedder_at(server: FaultServer, kind: str, **changes: Any) -> ServerEmbedder:
    options = EmbedderOptions(**{name: changes.pop(name) for name in ("model", "slots", "batch") if name in changes})
    node = Node(name="one", engine=kind, target=server.url, key=changes.pop("key", None))
    how = {"clocks": PATIENT, "environment": {}, "patience": SOON} | changes
    return ServerEmbedder(node, options, **how)


def vectors_of(embedder: ServerEmbedder, texts: list[str], server: FaultServer | None = None, *faults: AnyFault) -> Any:
    """What the opened embedder gives, with faults that begin once it is open."""

    async def story() -> Any:
        await embedder.open()
        try:
            if server is not None:
                server.forget()
                server.behave(fault=faults)
            return await embedder.embed(texts)
        finally:
            await embedder.close()

    return asyncio.run(story())


def failure_of(embedder: ServerEmbedder, texts: list[str], server: FaultServer, *faults: AnyFault) -> EngineError:
    with pytest.raises(EngineError) as caught:
        vectors_of(embedder, texts, server, *faults)
    return caught.value


def expected(texts: list[str], dimensions: int = 24) -> np.ndarray:
    return np.array([vector_of(text, dimensions, 0) for text in texts], np.float32)


def asked_inputs(server: FaultServer) -> list[list[str]]:
    """The texts of each request for vectors, the probe left out."""
    bodies = [
        json.loads(each["body"]) for each in server.requests() if each["path"].endswith(("/embed", "/embeddings"))
    ]
    return [body["input"] for body in bodies if body["input"] != ["Hello"]]


@pytest.mark.parametrize("engine", [*KINDS, "http"])
def test_vectors_come_in_the_order_of_the_texts(server: FaultServer, engine: str) -> None:
    """Texts of several batches, some of them twice, each get their own; a bare URL finds its API."""
    texts = [*TEXTS, *TEXTS[10:20]]

    found = vectors_of(embedder_at(server, engine, batch=8), texts)

    np.testing.assert_array_equal(found, expected(texts))
    assert found.dtype == np.float32


def test_each_text_is_sent_once_and_in_batches(server: FaultServer, kind: str) -> None:
    """No more texts in a request than allowed, and none of them twice."""
    vectors_of(embedder_at(server, kind, batch=8), TEXTS + TEXTS, server)

    inputs = asked_inputs(server)
    assert sorted(len(texts) for texts in inputs) == [2, 8, 8, 8, 8, 8, 8]
    assert sorted(text for texts in inputs for text in texts) == sorted(TEXTS)


def test_no_texts_need_no_request(server: FaultServer, kind: str) -> None:
    """Nothing in, nothing out, with the right number of columns."""
    assert vectors_of(embedder_at(server, kind), [], server).shape == (0, 24)
    assert asked_inputs(server) == []


def test_a_survey_names_the_model_and_opening_adds_the_length(server: FaultServer, kind: str) -> None:
    """The dimensions are known from the first vector on."""

    async def story() -> tuple[EmbedderFacts, EmbedderFacts]:
        embedder = embedder_at(server, kind)
        before = embedder.survey()
        after = await embedder.open()
        await embedder.close()
        return before, after

    before, after = asyncio.run(story())
    assert (before.model, before.dimensions) == ("llama3.2:latest", None)
    assert (after.model, after.digest, after.dimensions) == (before.model, before.digest, 24)


@pytest.mark.parametrize(
    "fault",
    [
        Status(status=503, **ONE_TWICE),
        Status(status=429, retry_after="0", **ONE_TWICE),
        Status(status=500, **ONE_TWICE),
        Reset(**ONE_TWICE),
        Close(**ONE_TWICE),
        WrongLength(**ONE_TWICE),
    ],
)
def test_what_passes_is_asked_again(server: FaultServer, kind: str, fault: AnyFault) -> None:
    """A batch that failed twice is answered by the third attempt, and only that batch is repeated."""
    found = vectors_of(embedder_at(server, kind, batch=8), TEXTS, server, fault)

    np.testing.assert_array_equal(found, expected(TEXTS))
    assert len(asked_inputs(server)) == 7 + 2


@pytest.mark.parametrize(
    ("fault", "failed", "attempts"),
    [
        (Status(status=503), "busy", 3),
        (Status(status=500), "transient", 3),
        (Body(what="html"), "transient", 3),
        (Body(what="empty"), "transient", 3),
        (Body(what="cut_character"), "transient", 3),
        (Body(what="text", text='{"data": 5, "embeddings": 5}'), "transient", 3),
        (GzipBomb(size=1 << 20), "transient", 3),
        (HugeBody(size=80 << 20), "transient", 3),
        (Status(status=400), "refused", 1),
        (Status(status=401), "misconfigured", 1),
        (Status(status=404), "misconfigured", 1),
        (Redirect(), "misconfigured", 1),
        (Status(status=413), "too_long", 1),
    ],
)
def test_a_failure_has_its_class(server: FaultServer, kind: str, fault: AnyFault, failed: str, attempts: int) -> None:
    """What may pass is asked so often and fails by its class; what can't is asked once."""
    error = failure_of(embedder_at(server, kind), ["left"], server, fault)

    assert (error.kind, len(asked_inputs(server))) == (failed, attempts)
    assert error.message.startswith(f"node 'one' at {server.url}: ")


@pytest.mark.parametrize("what", ["short", "long", "missing", "extra", "null", "twice"])
def test_vectors_that_cant_be_those_of_the_texts_are_refused(server: FaultServer, kind: str, what: Any) -> None:
    """A vector too few or too many, a number too few or too many or none, an index twice: nothing of it is taken."""
    if what == "twice" and kind == "ollama":
        pytest.skip("this API has no indexes")
    assert failure_of(embedder_at(server, kind), TEXTS, server, Vectors(what=what)).kind == "transient"


def test_the_index_decides_and_not_the_place(server: FaultServer) -> None:
    """OpenAI's API may give vectors in any order."""
    found = vectors_of(embedder_at(server, "openai"), TEXTS, server, Vectors(what="shuffled"))
    np.testing.assert_array_equal(found, expected(TEXTS))


def test_another_length_than_before_is_another_model(server: FaultServer, kind: str) -> None:
    """Vectors of two lengths never meet in one run."""

    async def story() -> None:
        embedder = embedder_at(server, kind)
        await embedder.open()
        try:
            await embedder.embed(["left"])
            server.behave(dimensions=16)
            with pytest.raises(EngineError, match="have 16 numbers now and had 24") as caught:
                await embedder.embed(["right"])
            assert caught.value.kind == "misconfigured"
        finally:
            await embedder.close()

    asyncio.run(story())


def test_a_text_that_doesnt_fit_is_said_to_be_too_long(server: FaultServer, kind: str) -> None:
    """Servers are told not to cut it."""
    server.behave(context=64, default_context=64)
    assert failure_of(embedder_at(server, kind), ["left " * 100], server).kind == "too_long"


def test_a_silent_server_ends_by_the_clock(server: FaultServer, kind: str) -> None:
    """No batch waits for ever."""
    clocks = Clocks(connect=5.0, first_token=3.0, gap=3.0, whole=20.0)
    embedder = embedder_at(server, kind, clocks=clocks, patience=Patience(attempts=1))

    error = failure_of(embedder, ["left"], server, Silent())

    assert (error.kind, "clock `first_token`" in error.message) == ("timeout", True)


def test_a_key_is_sent_and_never_told(server: FaultServer) -> None:
    """A server that quotes the key is quoted without it."""
    server.behave(key="sk-secret")
    embedder = embedder_at(server, "openai", key="env:THEIR_KEY", environment={"THEIR_KEY": "sk-secret"})

    error = failure_of(embedder, ["left"], server, Status(status=400, echo_key=True))

    assert "You sent" in error.message
    assert "sk-secret" not in error.message


def test_what_cant_serve_is_refused_when_it_is_opened(server: FaultServer, kind: str) -> None:
    """A model that isn't there, a kind that makes no vectors, a node that is gone."""
    with pytest.raises(UsageError, match="no-such"):
        vectors_of(embedder_at(server, kind, model="no-such"), ["left"])
    with pytest.raises(UsageError, match="engine 'scripted' makes no vectors"):
        make_embedder(Node(name="one", engine="scripted", target=""))
    gone = Node(name="one", engine=kind, target="http://127.0.0.1:9")
    with pytest.raises(NodeUnreachable, match="no connection"):
        asyncio.run(ServerEmbedder(gone, EmbedderOptions(), environment={}).open())
    with pytest.raises(EngineError, match="it isn't open"):
        asyncio.run(embedder_at(server, kind).embed(["left"]))

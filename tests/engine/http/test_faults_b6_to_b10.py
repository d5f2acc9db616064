"""Broken framing, bodies without end, answers that are none, and statuses: B6 to B10 of the fault list."""

from __future__ import annotations

import asyncio
import resource
import sys
import time

import pytest

from engine.http.asking import PATIENT, answer, ask, engine_at, failure, failure_of, settled, tell
from tokenmill.engine.http.engine import ServerEngine
from tokenmill.errors import EngineError, UsageError
from tokenmill.testing import Behaviour, Body, FaultServer, Status
from tokenmill.testing.fault import (
    AnyFault,
    Crumbs,
    EndlessHeaders,
    GzipBomb,
    HugeBody,
    HugeHeader,
    WrongChunk,
    WrongLength,
)


def peak() -> int:
    """The largest memory this process ever had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


async def then_right(server: FaultServer, engine: ServerEngine, fault: AnyFault) -> tuple[EngineError, str]:
    """The failure that the fault means, and the answer that the same engine gets afterwards."""
    server.behave(fault=(fault,))
    found = await failure(engine)
    server.behave(fault=())
    return found, (await answer(engine))[0]


# -- B6 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", ["short", "long", "negative", "words", "two"])
def test_b6_wrong_content_length(server: FaultServer, api: str, length: str) -> None:
    """An answer with a wrong, impossible or doubled length is never taken as whole, and the next one is right."""
    fault = WrongLength(length=length)  # type: ignore[arg-type]  # one of its kinds

    found, text = tell(engine_at(server.url, api), lambda engine: then_right(server, engine, fault))

    assert found.kind == "transient"
    assert text.strip()


@pytest.mark.parametrize("size", ["words", "negative", "huge", "short", "long"])
def test_b6_wrong_chunk_sizes(server: FaultServer, api: str, size: str) -> None:
    """An answer whose chunks have impossible sizes fails, and the next one is right."""
    fault = WrongChunk(size=size)  # type: ignore[arg-type]  # one of its kinds

    found, text = tell(engine_at(server.url, api), lambda engine: then_right(server, engine, fault))

    assert found.kind == "transient"
    assert text.strip()


def test_b6_chunks_of_one_byte(server: FaultServer, api: str) -> None:
    """A right answer in chunks of one byte is a right answer."""
    calm = tell(engine_at(server.url, api), answer)
    server.behave(fault=(Crumbs(),))

    assert tell(engine_at(server.url, api), answer) == calm


def test_b6_crumbs_cost_in_proportion(server: FaultServer, api: str) -> None:
    """Ten times as many chunks of one byte cost about ten times the processor time, not a hundred times."""

    def cost(more: int) -> float:
        server.behave(fault=(Crumbs(more=more),))
        before = time.process_time()
        tell(engine_at(server.url, api), answer)
        return time.process_time() - before

    cost(1000)
    assert cost(200_000) < 60 * max(0.01, cost(20_000))


# -- B7 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        GzipBomb(size=256 << 20),
        HugeBody(size=256 << 20),
        HugeBody(size=256 << 20, lines=True),
        HugeHeader(size=64 << 20),
        EndlessHeaders(limit=2_000_000),
    ],
    ids=["gzip", "line", "lines", "header", "headers"],
)
def test_b7_sizes_without_end(server: FaultServer, api: str, fault: AnyFault) -> None:
    """Whatever grows without end is left at its cap; memory stays flat and the slot is free again."""
    before = peak()

    found, text = tell(engine_at(server.url, api), lambda engine: then_right(server, engine, fault))

    assert found.kind == "transient"
    assert text.strip()
    assert peak() - before < 48 << 20
    assert settled(server).running == 0


# -- B8 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Body(what="html"), "transient"),
        (Body(what="empty"), "transient"),
        (Body(what="cut_character"), "transient"),
        (Body(what="text", text="data: {}\n\n"), "transient"),
        (Body(what="text", text="{}"), "transient"),
        (Body(what="text", text="data: [1, 2]\n\n"), "transient"),
        (Body(what="text", text='{"choices": 7, "message": 7}'), "transient"),
        (Body(what="text", text="[" * 100_000), "transient"),
        (Body(what="error"), "transient"),
        (Body(what="error", pieces=3), "transient"),
        (Body(what="text", text='data: {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}\n\n'), None),
    ],
    ids=["html", "empty", "cut", "no-choice", "object", "list", "types", "deep", "error", "late-error", "limit"],
)
def test_b8_a_200_that_is_no_answer(server: FaultServer, api: str, fault: Body, kind: str | None) -> None:
    """A page, nothing, an error object or something undecodable with status 200 is no answer."""
    found, text = tell(engine_at(server.url, api), lambda engine: then_right(server, engine, fault))

    assert found.kind == kind or (kind is None and found.kind == ("busy" if api == "openai" else "transient"))
    assert text.strip()


def test_b8_an_answer_as_one_object(server: FaultServer) -> None:
    """A server that doesn't stream though asked to is understood, if its one object is a whole answer."""
    whole = '{"id": "1", "choices": [{"index": 0, "message": {"content": "All at once."}, "finish_reason": "stop"}]}'
    server.behave(fault=(Body(what="text", text=whole),))

    text, end = tell(engine_at(server.url), answer)

    assert text == "All at once."
    assert end.flags == ("prompt_tokens_estimated", "usage_estimated")


# -- B9, B10 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        ("7", 7, 7),
        ("date+20", 15, 20),
        ("0", 0, 0),
        ("-1", 0, 0),
        ("99999999999", 300, 300),
        (None, None, None),
        ("later, maybe", None, None),
    ],
)
def test_b9_a_busy_node(
    server: FaultServer, api: str, status: int, said: str | None, least: float | None, most: float | None
) -> None:
    """A busy node is no fault of the row; the rest it asks for is told, between 0 and 300 s."""
    server.behave(fault=(Status(status=status, retry_after=said),))

    found = failure_of(engine_at(server.url, api))

    assert found.kind == "busy"
    if least is None or most is None:
        assert found.retry_after is None
    else:
        assert found.retry_after is not None
        assert least <= found.retry_after <= most


CLASSES = {
    400: "refused",
    401: "misconfigured",
    403: "misconfigured",
    404: "misconfigured",
    408: "transient",
    409: "transient",
    413: "too_long",
    422: "refused",
    425: "transient",
    500: "transient",
    502: "transient",
    504: "transient",
}


@pytest.mark.parametrize("status", CLASSES)
def test_b10_statuses(server: FaultServer, api: str, status: int) -> None:
    """Each status fails with the class that says whether to try again, fail the row or stop the node."""
    server.behave(fault=(Status(status=status, message="because"),))

    found = failure_of(engine_at(server.url, api))

    assert found.kind == CLASSES[status]
    assert f"HTTP {status}" in found.message


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_b10_statuses_before_the_run(server: FaultServer, api: str, status: int) -> None:
    """What a node refuses for good stops it before anything is sent; what may pass leaves it out for now."""
    server.behave(fault=(Status(status=status, path="."),))
    with pytest.raises(UsageError, match=f"HTTP {status}") as caught:
        engine_at(server.url, api).survey()

    assert type(caught.value).__name__ == ("UsageError" if status < 500 else "NodeUnreachable")


@pytest.mark.parametrize("overflow", ["openai", "llama.cpp", "vllm"])
def test_b10_context_overflow(server: FaultServer, api: str, overflow: str) -> None:
    """A prompt that doesn't fit is too long in every spelling, and is never cut instead."""
    server.behave(overflow=overflow)

    found = failure_of(engine_at(server.url, api, context=1024), ask("word " * 20_000))

    assert found.kind == "too_long"


def test_b10_a_model_that_is_missing(server: FaultServer, api: str) -> None:
    """A model nobody has there is refused with what there is, before anything is sent or as the node is opened."""
    engine = engine_at(server.url, api, model="no-such-model")

    with pytest.raises(UsageError, match=r"llama3\.2:latest"):
        asyncio.run(engine.open())


def test_several_models_need_a_name(api: str) -> None:
    """A server with several models is not guessed at; with the name of one it serves."""
    with FaultServer(Behaviour(models=("first:latest", "second:latest"))) as server:
        with pytest.raises(UsageError, match=r"2 models; choose one with --model: first:latest, second:latest"):
            engine_at(server.url, api).survey()
        facts = engine_at(server.url, api, model="second:latest", clocks=PATIENT).survey()

    assert facts.model == "second:latest"

"""What is bounded: connections and tasks after any fault, and the meaning of any bytes at all."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.http.asking import answer, ask, engine_at
from engine.http.raw import RawServer, chat_answer, framed
from tokenmill.engine.http.clocks import Clocks
from tokenmill.errors import EngineError
from tokenmill.event import FAILURE_KINDS
from tokenmill.testing import Behaviour, Body, Close, FaultServer, Reset, Status, Unfinished
from tokenmill.testing.fault import Surplus, WrongChunk, WrongLength

SHORT = Clocks(connect=2.0, first_token=0.5, gap=0.5, whole=2.0)
FAULTS = (
    Reset(at="head", share=0.1),
    Reset(at="body", share=0.1),
    Close(at="end", share=0.1),
    Unfinished(share=0.1),
    WrongLength(share=0.1),
    WrongChunk(share=0.1),
    Body(what="html", share=0.1),
    Status(status=503, share=0.1),
    Surplus(share=0.2),
)


def handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="open files are counted where Linux lists them")
def test_faults_leave_nothing_behind(api: str) -> None:
    """After hundreds of requests of which most failed, some were left and some cancelled, no handle or task is left."""
    with FaultServer(Behaviour(slots=8, fault=FAULTS)) as server:

        async def story() -> tuple[int, int, int]:
            engine = engine_at(server.url, api, slots=8)
            await engine.open()
            before = handles()
            outcomes: list[str] = []

            async def one(row: int) -> None:
                try:
                    if row % 5 == 0:
                        parts = engine.generate(ask(f"Prompt {row}", row))
                        await anext(parts)
                        await parts.aclose()
                    else:
                        await answer(engine, ask(f"Prompt {row}", row))
                    outcomes.append("answered")
                except EngineError as error:
                    outcomes.append(error.kind)

            for start in range(0, 400, 8):
                lanes = [asyncio.ensure_future(one(row)) for row in range(start, start + 8)]
                if start % 40 == 0:
                    await asyncio.sleep(0)
                    lanes[0].cancel()
                await asyncio.gather(*lanes, return_exceptions=True)
            assert {"answered", "transient", "busy"} <= set(outcomes)
            await engine.close()
            while asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.sleep(0)
            return before, handles(), len(asyncio.all_tasks())

        before, after, tasks = asyncio.run(story())

    assert after <= before
    assert tasks == 1


HEADS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n",
        b"HTTP/1.1 304 Not Modified\r\n",
        b"HTTP/2 200\r\n",
        b"HTTP/1.1 999 What\r\n",
        b"ICY 200 OK\r\n",
        b"\x16\x03\x01\x02",
    ]
)
FIELDS = st.lists(
    st.sampled_from(
        [
            b"Content-Length: 5\r\n",
            b"Content-Length: -5\r\n",
            b"Content-Length: 99999999999999999999\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n",
            b"Content-Encoding: gzip\r\n",
            b"Content-Type: text/html\r\n",
            b"Content-Type: \x00\xff\r\n",
            b"Connection: close\r\n",
            b"Connection: upgrade\r\n",
            b"Set-Cookie: a=b\r\n",
            b"Retry-After: \xff\r\n",
            b"Location: http://[::1\r\n",
            b"X-RateLimit-Limit-Requests: lots\r\n",
            b" folded: line\r\n",
            b"no colon\r\n",
            b": empty\r\n",
        ]
    ),
    max_size=4,
).map(b"".join)
BODIES = st.binary(max_size=60) | st.sampled_from(
    [b"", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", chat_answer("right"), b"data: {", b"\x00" * 50]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(head=HEADS, fields=FIELDS, body=BODIES)
def test_any_bytes_as_http(head: bytes, fields: bytes, body: bytes) -> None:
    """Whatever a server sends, the request ends with a known class or its right text, and the next is right."""

    async def story() -> tuple[str, str]:
        async with RawServer([head + fields + b"\r\n" + body]) as server:
            server.hang_up_after = True
            engine = engine_at(server.url, clocks=SHORT)
            await engine.open()
            try:
                first = (await answer(engine))[0]
            except EngineError as error:
                first = error.kind
            try:
                return first, (await answer(engine))[0]
            finally:
                await engine.close()

    first, second = asyncio.run(story())

    assert first in ("right", *FAILURE_KINDS)
    assert second == "right"


def test_a_head_that_comes_in_crumbs() -> None:
    """A right answer whose every byte comes alone is right."""

    async def story() -> str:
        whole = framed(chat_answer("right"))
        async with RawServer([whole[index : index + 1] for index in range(len(whole))]) as server:
            engine = engine_at(server.url)
            await engine.open()
            try:
                return (await answer(engine))[0]
            finally:
                await engine.close()

    assert asyncio.run(story()) == "right"

"""Nodes that can't be reached, say nothing, or break off: B1 to B5 of the fault list."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from engine.http.asking import QUICK, answer, ask, engine_at, failure, failure_of, settled, tell
from tokenmill.engine.http.address import parse_url
from tokenmill.engine.http.client import Client
from tokenmill.engine.http.clocks import Clocks
from tokenmill.engine.http.engine import ServerEngine
from tokenmill.errors import EngineError, NodeUnreachable, UsageError
from tokenmill.testing import Behaviour, Close, FaultServer, Reset, Silent, Unfinished
from tokenmill.testing.fault import AnyFault, KeepAlive, Trickle

PROMPT = "Give me 3 sentences about rivers"


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


# -- B1 ------------------------------------------------------------------------------------------------------------


def test_b1_refused_connection_before_the_run(api: str) -> None:
    """A survey of a server that isn't there says so as a node that can't be reached, at once."""
    engine = engine_at(f"http://127.0.0.1:{closed_port()}", api)

    with pytest.raises(
        NodeUnreachable, match=r"node '\w+-0' at http://127.0.0.1:\d+: no connection .*; start the server, or check"
    ):
        engine.survey()
    with pytest.raises(NodeUnreachable):
        asyncio.run(engine.open())


def test_b1_refused_connection_during_the_run(api: str) -> None:
    """A server that goes away makes requests fail as unreachable, which costs their rows nothing."""
    with FaultServer(Behaviour()) as server:

        async def body(engine: ServerEngine) -> EngineError:
            await answer(engine)
            await asyncio.to_thread(server.close)
            first = await failure(engine)
            return first if first.kind == "unreachable" else await failure(engine)

        fault = tell(engine_at(server.url, api), body)

    assert fault.kind == "unreachable"
    assert fault.retry_after is None


def test_b1_a_name_that_is_unknown(api: str) -> None:
    """A host name that can't be resolved is a node that can't be reached."""
    with pytest.raises(NodeUnreachable, match="no connection"):
        engine_at("http://no-such-host.invalid:1234", api).survey()


class MovingName(AbstractResolver):
    """A name that leads where it is told to lead."""

    def __init__(self) -> None:
        self.address = ""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=self.address, port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST
            )
        ]

    async def close(self) -> None:
        return


def test_b1_a_node_that_moves_is_found_again() -> None:
    """Each new connection resolves the name, so a node with a new address is reached after its old one is gone."""
    with FaultServer(Behaviour()) as old:
        port = int(old.url.rpartition(":")[2])
        name = MovingName()
        name.address = "127.0.0.1"

        async def story() -> list[bytes]:
            address = parse_url("node", f"http://node.example:{port}")
            client = Client("node", address, None, QUICK, resolver=name)
            try:
                before = await client.describe("/api/version")
                old.close()
                with FaultServer(Behaviour(address="127.0.0.2", port=port, version="9.9")):
                    with pytest.raises(EngineError):
                        await client.describe("/api/version")
                    name.address = "127.0.0.2"
                    return [before, await client.describe("/api/version")]
            finally:
                await client.close()

        first, second = asyncio.run(story())

    assert b"9.9" not in first
    assert b"9.9" in second


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "100.100.100.200"])
def test_a_name_must_not_lead_to_a_metadata_service(address: str) -> None:
    """A host name that resolves to a link-local or metadata address is refused before anything is sent there."""

    async def story() -> EngineError:
        name = MovingName()
        name.address = address
        client = Client("node", parse_url("node", "http://node.example:80"), None, QUICK, resolver=name)
        try:
            with pytest.raises(EngineError) as caught:
                await client.describe("/api/version")
        finally:
            await client.close()
        return caught.value

    fault = asyncio.run(story())

    assert fault.kind == "misconfigured"
    assert "write the address itself if it is meant" in fault.message


# -- B2 ------------------------------------------------------------------------------------------------------------


@contextmanager
def black_hole() -> Iterator[int]:
    """A port whose queue of connections is full, so that the system drops further ones without a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        try:
            yield port
        finally:
            for filler in fillers:
                filler.close()


def test_b2_a_black_hole(api: str) -> None:
    """A host that drops packets ends on the clock for connections, as a node that can't be reached."""
    with black_hole() as port, pytest.raises(NodeUnreachable, match=r"no connection in time \(clock `connect`\)"):
        engine_at(f"http://127.0.0.1:{port}", api, clocks=Clocks(connect=0.3)).survey()


# -- B3 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "clock"),
    [
        (Silent(), "first_token"),
        (KeepAlive(gap=0.02), "first_token"),
        (Trickle(bytes=1, gap=0.1), "first_token"),
    ],
    ids=["silent", "comments", "trickle"],
)
def test_b3_no_token_comes(server: FaultServer, api: str, fault: AnyFault, clock: str) -> None:
    """A node that is silent, only keeps the connection, or trickles ends on the first clock; its slot is free again."""
    engine = engine_at(server.url, api, clocks=QUICK)

    async def body(engine: ServerEngine) -> tuple[EngineError, str]:
        server.behave(fault=(fault,))
        found = await failure(engine)
        await asyncio.to_thread(settled, server)
        server.behave(fault=())
        return found, (await answer(engine))[0]

    found, text = tell(engine, body)

    assert found.kind == "timeout"
    assert f"(clock `{clock}`)" in found.message
    assert text


def test_b3_an_answer_that_stops(server: FaultServer, api: str) -> None:
    """An answer that stops between two tokens ends on the clock for gaps."""
    server.behave(rate=2.0)
    clocks = Clocks(connect=5.0, first_token=10.0, gap=0.1, whole=20.0)
    found = failure_of(engine_at(server.url, api, clocks=clocks), ask(PROMPT))

    assert found.kind == "timeout"
    assert "(clock `gap`)" in found.message
    assert settled(server).running == 0


def test_b3_an_answer_without_end(server: FaultServer, api: str) -> None:
    """An answer that keeps coming too slowly for its length ends on the clock for the whole."""
    server.behave(rate=20.0)
    clocks = Clocks(connect=5.0, first_token=5.0, gap=5.0, whole=0.4)
    found = failure_of(engine_at(server.url, api, clocks=clocks), ask("Give me 9 sentences about rivers"))

    assert found.kind == "timeout"
    assert "(clock `whole`)" in found.message


# -- B4, B5 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Reset, Close], ids=["reset", "closed"])
@pytest.mark.parametrize("at", ["head", "body", "end"])
def test_b4_the_answer_breaks_off(server: FaultServer, api: str, fault: type[Reset] | type[Close], at: str) -> None:
    """Text that broke off in the head, in the middle or before its end mark is no answer and may be tried again."""
    server.behave(fault=(fault(at=at),))  # type: ignore[arg-type]  # one of the three points

    async def body(engine: ServerEngine) -> tuple[EngineError, str]:
        found = await failure(engine)
        server.behave(fault=())
        return found, (await answer(engine))[0]

    found, text = tell(engine_at(server.url, api), body)

    assert found.kind == "transient"
    assert text.strip()


def test_b5_no_reason_why_it_ended(server: FaultServer, api: str) -> None:
    """A well-formed stream that doesn't say why it ended is not a whole answer."""
    server.behave(fault=(Unfinished(missing="both"),))

    found = failure_of(engine_at(server.url, api))

    assert found.kind == "transient"
    assert "the answer is not whole" in found.message


def test_b5_only_the_mark_is_missing(server: FaultServer) -> None:
    """A stream with its finish reason and a right end, but without `[DONE]`, is an answer."""
    server.behave(fault=(Unfinished(missing="mark"),))

    text, end = tell(engine_at(server.url), answer)

    assert text
    assert end.finish_reason == "stop"


def test_a_survey_refuses_what_speaks_neither_api(server: FaultServer) -> None:
    """A bare URL whose server speaks no known API is refused, with both of its answers."""
    with pytest.raises(UsageError, match=r"neither API answers there. /x/api/version: HTTP 404.* /x/models: HTTP 404"):
        engine_at(f"{server.url}/x", "http").survey()

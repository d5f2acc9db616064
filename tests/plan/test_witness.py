"""The evidence as it is gathered: own addresses, what a connect shows, and the marks in what servers say."""

from __future__ import annotations

import json
import socket

import pytest

from tokenmill.cluster import Node
from tokenmill.driver.ask_nodes import identity_of
from tokenmill.driver.ask_server import memory_mark, start_mark
from tokenmill.driver.witness import is_own, look
from tokenmill.plan.url import Url
from tokenmill.testing import Behaviour, FaultServer


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", True),
        ("192.0.2.77", False),
        ("203.0.113.9", False),
        ("2001:db8::9", False),
    ],
)
def test_own_addresses_are_known(address: str, own: bool) -> None:
    """Loopback is this machine; an address of the documentation's ranges is not."""
    assert is_own(address) is own


def test_a_listener_is_reached_and_a_closed_port_is_not() -> None:
    """A connect gives a round trip; a refused one, or a name that means nothing, gives the reason."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        seen = look(Url("http", "localhost", port), 5.0)
        assert seen.is_here
        assert "127.0.0.1" in seen.addresses
        assert seen.round_trip is not None
        assert 0 < seen.round_trip < 5
        assert seen.fault == ""
    closed = look(Url("http", "127.0.0.1", port), 5.0)
    assert (closed.round_trip, closed.fault, closed.is_here) == (None, "connection refused", True)
    nameless = look(Url("http", "a..b", 1), 5.0)
    assert (nameless.round_trip, nameless.addresses) == (None, ())
    assert nameless.fault.startswith("the name 'a..b' can't be resolved")


def loaded(expiry: object, digest: str = "d1") -> dict[str, object]:
    return {"name": "m", "digest": digest, "expires_at": expiry}


def test_models_in_memory_are_a_mark_by_their_expiry() -> None:
    """Digest and expiry to the last digit make a mark, whatever the order; an expiry in whole seconds makes none."""
    first, second = loaded("2026-01-02T03:04:05.678901234Z"), loaded("2026-01-02T03:04:06.1230+02:00", "d2")
    mark = memory_mark(json.dumps({"models": [second, first]}).encode())

    assert mark == "d1 2026-01-02T03:04:05.678901234; d2 2026-01-02T03:04:06.1230"
    assert memory_mark(json.dumps({"models": [first, second]}).encode()) == mark
    for nothing in ({"models": []}, {"models": [loaded("2318-01-01T00:00:00Z")]}, {"models": [loaded(5)]}, [], "x"):
        assert memory_mark(json.dumps(nothing).encode()) == ""
    assert memory_mark(b"\xff<html>") == ""


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("# HELP x\nprocess_start_time_seconds 1.76e+09\nother 1\n", "1.76e+09"),
        ('process_start_time_seconds{engine="0"} 1767225600.25\n', "1767225600.25"),
        ("xprocess_start_time_seconds 1767225600.25\n", ""),
        ("process_start_time_seconds NaN\n", ""),
        ("", ""),
    ],
)
def test_the_start_of_a_process_is_a_mark(text: str, mark: str) -> None:
    """A server that publishes when its process started is known again by it."""
    assert start_mark(text.encode()) == mark


def test_a_run_can_ask_how_its_nodes_belong_together() -> None:
    """Without a request, also for engines of this machine, nodes are grouped by what is seen of them."""
    with FaultServer(Behaviour(), Behaviour()) as server:
        nodes = [
            Node(name="a", engine="ollama", target=server.urls[0]),
            Node(
                name="b", engine="http", target=server.urls[0].removeprefix("http:").replace("127.0.0.1", "localhost")
            ),
            Node(name="c", engine="openai", target=server.urls[1], device="gpu:1"),
            Node(name="d", engine="scripted", target=""),
        ]
        found = identity_of(nodes)
        assert server.state().asked == 0
    assert found.twins_of("a") == ("a", "b")
    assert found.host_of("a") is found.host_of("d")
    assert found.may_share("a", "c")
    assert found.device_of("d").kind == "cpu"
    assert not found.may_share("c", "d")

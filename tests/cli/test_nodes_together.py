"""`tokenmill nodes check --together`, on servers that share a device and on a run that comes after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.desk import Desk
from tokenmill.testing import Behaviour, Curve, FaultServer

#: One processor that is full with one request, and loses half as much again for a second server.
CURVE = Curve(serial=1.0, crowding=0.5)
CROWDED = Behaviour(slots=1, rate=1500, least_words=40, device="one", apis=("openai",))
APART = Behaviour(slots=1, rate=1500, least_words=40, apis=("openai",))


@pytest.mark.parametrize("behaviour", [CROWDED, APART], ids=["one device", "two devices"])
def test_nodes_are_measured_alone_and_together(tmp_path: Path, behaviour: Behaviour) -> None:
    """The verdict follows the measurement and not the address, is kept, and a short run goes by it."""
    desk = Desk(tmp_path)
    with FaultServer(behaviour, behaviour, devices={"one": CURVE}) as servers:
        ended = desk.call("nodes", "check", "--together", "--json", "--most-slots", "2", *servers.urls)
        assert ended.code == 0, ended
        nodes = [word for url in servers.urls for word in ("--node", url)]
        run = desk.call("run", "ok.txt", "--model", "llama3.2:latest", "--strategy", "auto", *nodes)
    (shared,) = json.loads(ended.out)["together"]
    if behaviour is APART:
        assert len(shared["use"]) == 2
        assert shared["low"] > 0
        assert "using all" in shared["words"]
    else:
        assert len(shared["use"]) == 1
        assert shared["together"] < shared["alone"]
        assert "using one" in shared["words"]
    assert len(json.loads((desk.runs / "verdicts.json").read_text())) == 1
    assert run.code == 0, run
    assert "may share a device: stored on " in run.err


def test_it_needs_requests(tmp_path: Path) -> None:
    """Without sending anything nothing can be measured, and the command says so."""
    ended = Desk(tmp_path).call("nodes", "check", "--together", "--no-ramp", "http://127.0.0.1:1")
    assert (ended.code, ended.out) == (2, "")
    assert "leave --no-ramp out" in ended.err


def test_nodes_that_share_nothing(tmp_path: Path) -> None:
    """A node alone is in no group."""
    desk = Desk(tmp_path)
    with FaultServer(APART) as server:
        ended = desk.call("nodes", "check", "--together", "--most-slots", "1", server.url)
    assert ended.code == 0, ended
    assert ended.out.endswith("no nodes that hold one model may share a device\n")

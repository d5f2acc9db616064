"""`tokenmill plan`: from what `nodes check` keeps, without a word to any node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.desk import Desk
from tokenmill.testing import Behaviour, FaultServer

NOBODY = "http://127.0.0.1:1"
#: Runs a command in which every socket is an error.
DEAF = """
import sys
def refuse(event, _):
    if event.startswith("socket."):
        raise SystemExit(f"a socket: {event}")
sys.addaudithook(refuse)
from tokenmill.cli import main
main()
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk with an inventory of its own."""
    desk = Desk(tmp_path)
    desk.environment |= {"TOKENMILL_NODES": str(tmp_path / "nodes.toml")}
    return desk


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Two nodes on devices of their own that were checked, answered a run, and are down by now."""
    desk = Desk(tmp_path_factory.mktemp("plan"))
    desk.environment |= {"TOKENMILL_NODES": str(desk.folder / "nodes.toml")}
    quick, slow = Behaviour(slots=2, rate=400, first_token=0.01), Behaviour(slots=2, rate=200, first_token=0.01)
    with FaultServer(quick, slow) as servers:
        for name, url in zip(("gpu-a", "gpu-b"), servers.urls, strict=True):
            assert desk.call("nodes", "add", name, url, "--device", name).code == 0
        assert desk.call("nodes", "check", "--most-slots", "4").code == 0
        run = desk.call("run", "sentences", "--limit", "4", "--model", "llama3.2", "--node", "all", "-q")
        assert run.code == 0, run
    assert desk.call("nodes", "add", "gpu-c", NOBODY).code == 0
    return desk


def deaf(desk: Desk, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", DEAF, *words], cwd=desk.folder, env=desk.environment, capture_output=True, text=True
    )


def facts(desk: Desk, *words: str) -> Any:
    ended = desk.call("plan", "--requests", "sentences", "--json", *words)
    assert ended.code == 0, ended
    return json.loads(ended.out)


def refused(desk: Desk, *words: str) -> str:
    ended = desk.call("plan", *words)
    assert (ended.code, ended.out) == (2, ""), ended
    return ended.err


def test_a_plan_opens_no_socket(checked: Desk) -> None:
    """Nodes that are down by now are planned with, and the interpreter sees not a single socket made."""
    done = deaf(checked, "plan", "--requests", "sentences", "--node", "all", "--model", "llama3.2")
    assert done.returncode == 0, done.stderr
    assert "gpu-a + gpu-b" in done.stdout
    assert "gpu-b would save " in done.stdout
    assert done.stdout.endswith("nothing was sent\n")


def test_what_is_not_stored_has_a_command(checked: Desk) -> None:
    """A node that was never checked is in no set, and the line says how to check it."""
    plan = facts(checked, "--node", "all", "--model", "llama3.2")
    assert [choice["nodes"] for choice in plan["alone"]] == [["gpu-a"], ["gpu-b"]]
    assert [choice["nodes"] for choice in plan["together"]] == [["gpu-a", "gpu-b"]]
    assert plan["nodes"][2]["note"] == "no stored figures; run 'tokenmill nodes check gpu-c --model llama3.2'"
    assert plan["nodes"][2]["alone"] is None


def test_every_figure_has_its_day(checked: Desk) -> None:
    """Slots and paces come with the check that measured them, and with the server's version."""
    quick, slow, _ = facts(checked, "--node", "all", "--model", "llama3.2")["nodes"]
    for node in (quick, slow):
        assert node["source"].startswith(f"nodes check of {node['day']}, ollama 0.12.6")
        assert node["slots"] >= 1
        assert node["first_token"] > 0
    assert quick["alone"] > slow["alone"]


@pytest.mark.parametrize("columns", ["80", "60", "40"])
def test_it_fits_the_terminal(checked: Desk, columns: str) -> None:
    """No line is wider than the terminal, but for a word that has no end."""
    checked.environment["COLUMNS"] = columns
    ended = checked.call("plan", "--requests", "sentences", "--node", "gpu-a", "--node", "gpu-b")
    checked.environment["COLUMNS"] = "80"
    assert ended.code == 0, ended
    assert all(len(line) <= int(columns) or " " not in line.strip() for line in ended.out.splitlines()), ended.out


def test_a_fleet_of_checked_nodes(checked: Desk) -> None:
    """Hosts may be like nodes that were checked, which take turns; nothing is sent to them either."""
    words = ("--node", "gpu-a", "--node", "gpu-b", "--model", "llama3.2", "--hosts", "10", "--rows", "600")
    fleet = facts(checked, *words)
    assert (fleet["nodes"], fleet["rows"], fleet["unfinished"]) == (10, 600, 0)
    assert 1 <= fleet["ratio"] < 1.5
    assert "a socket" not in deaf(checked, "plan", "--requests", "sentences", *words).stderr


def test_without_figures_there_is_no_plan(desk: Desk) -> None:
    """The line names the file that holds none and the command that makes it, and nothing is sent."""
    error = refused(desk, "--requests", "ok.txt", "--node", NOBODY)
    assert "figures.json has no figures to plan with; run 'tokenmill nodes check http://127.0.0.1:1' first" in error


def test_usage_is_checked(desk: Desk, checked: Desk) -> None:
    """A name that isn't known, an input that is empty or missing, no nodes and no input are told with the way out."""
    checked.write("empty.txt", "")
    assert "node 'gpu-x': write KIND:TARGET" in refused(checked, "--requests", "ok.txt", "--node", "gpu-x")
    assert "holds no rows" in refused(checked, "--requests", "empty.txt", "--node", "gpu-a")
    assert "none.txt" in refused(checked, "--requests", "none.txt", "--node", "gpu-a")
    assert "name each with --node" in refused(checked, "--requests", "ok.txt")
    assert "--requests prompts.jsonl" in refused(checked, "--node", "gpu-a")
    assert "unknown strategy 'fast'" in refused(
        checked, "--requests", "ok.txt", "--node", "gpu-a", "--strategy", "fast"
    )
    assert "no nodes in" in refused(desk, "--requests", "ok.txt", "--node", "all")


def test_an_engine_of_this_machine_is_measured_by_runs(desk: Desk) -> None:
    """A check sends such an engine nothing, so its pace is that of an earlier run, and before that n/a."""
    script = ("--node", "scripted:script.toml")
    assert desk.call("nodes", "check", "scripted:script.toml").code == 0
    assert "its pace was never measured; run 'tokenmill run' on it" in refused(desk, "--requests", "ok.txt", *script)

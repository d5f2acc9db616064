"""Whole runs over real servers that misbehave: nothing is lost, repeated or silently wrong, whatever they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tokenmill
from driver.runs import attempts
from tokenmill.testing import Behaviour, Change, FaultServer, Reset, Silent, Slow, Status, Unfinished

PROMPTS = [f"Say {number} in words." for number in range(60)]
QUICK = Behaviour(slots=4, rate=4000.0, chunks=4)
CANARY = "sk-canary-0123456789"


def run(folder: Path, servers: FaultServer, *, rows: list[Any] | None = None, **options: Any) -> tokenmill.Answers:
    nodes = options.pop("nodes", [f"openai:{url}" for url in servers.urls])
    options = {"strategy": "pull"} | options
    return tokenmill.run(rows or PROMPTS, nodes=nodes, runs_dir=folder / "runs", durability="process", **options)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> list[str | None]:
    """What a server in peace answers."""
    with FaultServer(QUICK) as server:
        return run(tmp_path_factory.mktemp("calm"), server).texts


def test_servers_share_the_work(tmp_path: Path, calm: list[str | None]) -> None:
    """Three nodes are all used, each within its slots, and the answers are those of one."""
    with FaultServer(QUICK, QUICK, QUICK) as servers:
        answers = run(tmp_path, servers, slots=4)
        states = [servers.state(node) for node in range(3)]
    assert answers.texts == calm
    assert all(state.answered > 5 for state in states)
    assert sum(state.answered for state in states) == len(PROMPTS)
    assert all(state.max_in_flight <= 4 for state in states)


def test_a_node_that_is_not_there_is_done_without(tmp_path: Path, calm: list[str | None]) -> None:
    """The run begins with the nodes that answer."""
    with FaultServer(QUICK) as server:
        answers = run(tmp_path, server, nodes=["openai:http://127.0.0.1:9", f"openai:{server.url}"])
    assert answers.texts == calm


def test_a_node_that_goes_away_costs_nothing(tmp_path: Path, calm: list[str | None]) -> None:
    """Its rows are answered elsewhere; a request that was never sent is no attempt that failed."""
    away = Behaviour(slots=4, rate=4000.0, chunks=4, change=(Change(request=6, down=True),))
    with FaultServer(away, QUICK) as servers:
        answers = run(tmp_path, servers, retries=1)
    assert answers.texts == calm


def test_a_node_that_returns_takes_part_again(tmp_path: Path, calm: list[str | None]) -> None:
    """The only node is away for a second; the rows wait, and nothing fails."""
    changes = (Change(request=10, down=True), Change(at=1.5, down=False))
    with FaultServer(Behaviour(slots=2, rate=400.0, chunks=4, change=changes)) as server:
        answers = run(tmp_path, server)
    assert answers.texts == calm
    assert answers.failed == {}


def test_mixed_faults_change_no_answer(tmp_path: Path, calm: list[str | None]) -> None:
    """Resets, ends that are missing and errors in a third of all first attempts are made good."""
    faults = (Reset(share=0.1, times=2), Unfinished(share=0.1, times=2), Status(share=0.1, status=500, times=2))
    broken = Behaviour(slots=4, rate=4000.0, chunks=4, fault=faults, seed=0)
    with FaultServer(broken, broken) as servers:
        answers = run(tmp_path, servers, retries=6)
        states = [servers.state(node) for node in range(2)]
    assert sum(state.faulted for state in states) > 5
    assert answers.texts == calm


def test_a_stalled_request_is_answered_elsewhere(
    tmp_path: Path, calm: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that says nothing for longer than the clock allows loses the request."""
    monkeypatch.setenv("TOKENMILL_FIRST_TOKEN_TIMEOUT", "0.5")
    mute = Behaviour(slots=4, rate=4000.0, chunks=4, fault=(Silent(numbers=(3, 5)),))
    with FaultServer(mute, QUICK) as servers:
        answers = run(tmp_path, servers, hedge=False)
    assert answers.texts == calm
    assert sum(kind == "timeout" for _, _, _, kind in attempts(answers)) == 2


def test_a_loser_is_really_cancelled(tmp_path: Path, calm: list[str | None]) -> None:
    """The second attempt of a straggler wins, and the slow server sees its client leave."""
    slow = Behaviour(slots=4, rate=4000.0, chunks=4, fault=(Slow(factor=1e6, numbers=(8,)),))
    with FaultServer(slow, QUICK) as servers:
        answers = run(tmp_path, servers)
        cancelled = servers.state(0).cancelled
    assert answers.texts == calm
    assert cancelled == 1
    assert [kind for _, _, outcome, kind in attempts(answers) if outcome != "answered"] == ["hedge"]


def test_a_node_with_another_key_is_told_of_once(
    tmp_path: Path, calm: list[str | None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One node that refuses our key mid-run is left out; not one row fails for it."""
    refusing = Behaviour(slots=4, rate=4000.0, chunks=4, fault=(Status(status=401, message="no such key"),))
    with FaultServer(refusing, QUICK) as servers:
        answers = run(tmp_path, servers)
    assert answers.texts == calm
    assert answers.failed == {}
    assert 1 <= sum(kind == "misconfigured" for _, _, _, kind in attempts(answers)) <= 4


def test_without_any_usable_node_the_run_stops(tmp_path: Path, calm: list[str | None]) -> None:
    """When the last node refuses to serve it, the run stops, and goes on with another node, to the same answers."""
    refusing = Behaviour(
        slots=2, rate=4000.0, chunks=4, fault=(Status(status=403, after=0.0, numbers=tuple(range(9, 99))),)
    )
    with FaultServer(refusing, QUICK) as servers:
        first, second = (f"openai:{url}" for url in servers.urls)
        stopped = run(tmp_path, servers, nodes=[first], run_id="a")
        assert not stopped.is_complete
        assert stopped.failed == {}
        answers = run(tmp_path, servers, nodes=[second], run_id="a", resume=True)
    assert answers.texts == calm


def test_other_nodes_give_equal_bytes(tmp_path: Path) -> None:
    """A run that stopped at its budget and went on elsewhere ends in the same file as one that was left in peace."""
    with FaultServer(QUICK, QUICK) as servers:
        first, second = (f"openai:{url}" for url in servers.urls)
        whole = run(tmp_path, servers, nodes=[first], run_id="whole", output=tmp_path / "whole.jsonl")
        part = run(tmp_path, servers, nodes=[first], run_id="part", output=tmp_path / "part.jsonl", budget_tokens=500)
        assert whole.is_complete
        assert not part.is_complete
        run(tmp_path, servers, nodes=[second], run_id="part", resume=True)
    assert (tmp_path / "part.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_key_is_nowhere_to_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A server that echoes our key in every error finds it in no file of the run and in nothing that is printed."""
    faults = (Status(status=500, echo_key=True, share=0.2, times=1), Status(status=400, echo_key=True, share=0.5))
    with FaultServer(Behaviour(slots=4, key=CANARY, fault=faults)) as server:
        monkeypatch.setenv("OPENAI_API_KEY", CANARY)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        answers = run(tmp_path, server, nodes=["openai:"], output=tmp_path / "out.jsonl", retries=1)
        assert server.state().faulted > 0
    assert answers.failed.keys() == {"refused"}
    assert "transient" in {kind for _, _, _, kind in attempts(answers)}
    said = capfd.readouterr()
    assert CANARY not in said.out + said.err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


def test_nodes_with_different_models_are_named(tmp_path: Path) -> None:
    """The refusal says which node holds which model."""
    other = Behaviour(models=("llama3.2:latest",), digest="f" * 64)
    with FaultServer(QUICK, other) as servers:
        nodes = [f"ollama:{url}" for url in servers.urls]
        with pytest.raises(tokenmill.TokenmillError, match=r"2 different models: llama3.2:latest on 127.0.0.1:\d+"):
            run(tmp_path, servers, nodes=nodes)


def test_a_node_that_is_never_there_is_given_up(tmp_path: Path) -> None:
    """With --remove-after, servers that are away, at the start or later, end the run when none is left."""
    gone = Behaviour(slots=4, rate=4000.0, chunks=4, change=(Change(request=6, down=True),))
    with FaultServer(gone) as server:
        nodes = ["openai:http://127.0.0.1:9", f"openai:{server.url}"]
        stopped = run(tmp_path, server, nodes=nodes, remove_after=2, health_interval=0.5)
    assert not stopped.is_complete
    assert stopped.failed == {}

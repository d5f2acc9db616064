"""The words of SLURM: text stored from version 22.05, and what the same commands say on a live cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.slurm.jobs import until, until_ended
from tokenmill.launch.slurm import commands
from tokenmill.launch.slurm.state import Element, expanded, read_sacct, read_scontrol, read_squeue
from tokenmill.testing.slurm import SlurmCluster

SAID = Path(__file__).parent / "said"


def test_scontrol_is_read() -> None:
    """Jobs, elements, and what of an array was not split off yet, each with its state and how it ended."""
    found = read_scontrol((SAID / "scontrol-22.05.txt").read_text())
    told = {(each.number, each.state): each for each in found}
    waiting = told["1_[2-5%2]", "PENDING"]
    assert (waiting.reason, waiting.nodes, waiting.is_over) == ("JobArrayTaskLimit", "", False)
    assert not told["1_0", "RUNNING"].is_over
    failed = told["4", "FAILED"]
    assert (failed.code, failed.nodes, failed.first, failed.is_over) == (7, "n[1-3]", "n1", True)
    assert told["1_4", "CANCELLED"].signal == 15
    assert told["5", "PENDING"].reason == "BeginTime"


def test_a_job_without_the_node_of_its_script_is_noticed() -> None:
    """A job that goes on without its first node would run to the end of its time for nothing."""
    found = read_scontrol((SAID / "scontrol-22.05.txt").read_text())
    assert [each.number for each in found if each.has_lost_its_script] == ["33"]


def test_squeue_is_read() -> None:
    """The same states in the words of squeue."""
    found = {each.number: each for each in read_squeue((SAID / "squeue-22.05.txt").read_text())}
    assert found["1_[2-5%2]"] == Element(number="1_[2-5%2]", state="PENDING", reason="JobArrayTaskLimit")
    assert str(found["1_0"]) == "running on n1"
    assert str(found["6"]) == "pending ((ReqNodeNotAvail, UnavailableNodes:n[1-2]))"
    assert [number for number, each in found.items() if each.is_over] == ["1_1", "2", "3"]


def test_sacct_is_read() -> None:
    """Accounting knows of ends that the queue has forgotten."""
    found = {each.number: each for each in read_sacct((SAID / "sacct-22.05.txt").read_text())}
    assert (found["8_1"].state, found["8_1"].signal) == ("CANCELLED", 15)
    assert (found["8_0"].code, found["8_0"].is_over) == (7, True)
    assert not found["8_[2-5%2]"].is_over
    assert all(found[number].is_over for number in ("7", "9", "10", "11"))


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        ("n1", ["n1"]),
        ("n[1-3],login", ["n1", "n2", "n3", "login"]),
        ("n[08-10,12]", ["n08", "n09", "n10", "n12"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("a-b[1]", ["a-b1"]),
        ("", []),
    ],
)
def test_lists_of_hosts_are_expanded(nodes: str, names: list[str]) -> None:
    """Ranges keep their leading zeros."""
    assert expanded(nodes) == names


def test_a_submission_without_an_answer_may_have_been_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that takes its time may have queued the job, so nobody is told that it wasn't."""
    words = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    with pytest.raises(commands.SlurmSilent, match=r"Socket timed out.*may have been taken.*see squeue --me"):
        commands.submit(tmp_path / "script.sh")


@pytest.fixture
def here(cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    """The cluster, which this process's own commands find."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    return cluster


def test_a_live_array_is_read(here: SlurmCluster) -> None:
    """Elements that run, that wait their turn, and that were cancelled are told apart, and squeue agrees."""
    number = here.run("sbatch", "--parsable", "--array=0-3%1", "-o", "/dev/null", "--wrap", "sleep 600").strip()
    until(lambda: any(each.state == "RUNNING" for each in commands.look(number)))
    states = {each.number: each.state for each in commands.look(number)}
    assert states == {f"{number}_0": "RUNNING", f"{number}_[1-3%1]": "PENDING"}
    squeued = read_squeue(here.run("squeue", "-h", "-t", "all", "-j", number, "-o", commands.SQUEUE_FORMAT))
    assert {each.number: each.state for each in squeued} == states
    commands.cancel(number, pending_only=True)
    states = {each.number: each.is_over for each in commands.look(number)}
    assert states.pop(f"{number}_0") is False
    assert set(states.values()) == {True}
    commands.cancel(number)
    until(lambda: all(each.is_over for each in commands.look(number)))
    commands.cancel(number)  # fine for what has ended


def test_a_live_failure_is_read(here: SlurmCluster) -> None:
    """The exit code of the script comes through; without accounting, an unknown job is nothing and no error."""
    number = here.run("sbatch", "--parsable", "-N2", "-o", "/dev/null", "--wrap", "exit 7").strip()
    until_ended(here, number)
    (found,) = commands.look(number)
    assert (found.state, found.code, found.nodes, found.is_over) == ("FAILED", 7, "n[1-2]", True)
    assert commands.look("99999") == []


def test_a_live_job_goes_back_into_the_queue(here: SlurmCluster) -> None:
    """A running job that is requeued waits again."""
    number = here.run("sbatch", "--parsable", "--requeue", "-o", "/dev/null", "--wrap", "sleep 600").strip()
    until_ended(here, number, "RUNNING")
    commands.requeue(number)
    until_ended(here, number, "PENDING")
    commands.cancel(number)

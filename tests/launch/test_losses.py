"""Ranks, agents and drivers that are killed in the middle: each run ends complete, and nothing is left running."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from launch.acts import Act, below, ranks_of, strike, wait_for_ends, wait_until

pytestmark = pytest.mark.slow


def test_a_rank_killed_costs_what_was_in_flight_there(tmp_path: Path, llama: Path, alone: bytes) -> None:
    """The process is started again and joins; every row is answered once, as one process answers it."""
    act = Act(tmp_path, llama)
    with act.playing(act.run("--on", "processes:2")) as run:
        wait_until(lambda: act.answered() >= 4 and bool(act.at_work()), run)
        everything = below(run.pid)
        strike(ranks_of(run.pid)[act.at_work()[0]].pid)  # the other one may still be loading
        said = run.communicate(timeout=240)[0]

    assert run.returncode == 0, said
    assert act.output.read_bytes() == alone
    assert act.attempts()["failed"] >= 1
    assert wait_for_ends(everything) == []


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stopped processes are a matter of POSIX")
def test_a_rank_that_falls_silent_is_lost(tmp_path: Path, llama: Path, alone: bytes) -> None:
    """A rank that is there and says nothing is called lost after the silence allowed, killed and replaced."""
    act = Act(tmp_path, llama)
    launch = ["launch", "processes", "--workers", "2", "--silence", "2", "--"]
    with act.playing([*launch, *act.run()]) as run:
        wait_until(lambda: act.answered() >= 4, run)
        rank = ranks_of(run.pid)[0]
        rank.suspend()
        said = run.communicate(timeout=240)[0]

    assert run.returncode == 0, said
    assert act.output.read_bytes() == alone
    assert wait_for_ends([rank]) == []


def test_torchrun_starts_all_ranks_again(tmp_path: Path, llama: Path, alone: bytes) -> None:
    """A killed rank takes the others along; torchrun starts all of them, they join, and the run ends complete."""
    act = Act(tmp_path, llama)
    with act.playing(act.run("--on", "torchrun:2")) as run:
        wait_until(lambda: act.answered() >= 4, run)
        everything = below(run.pid)
        strike(ranks_of(run.pid)[0].pid)
        wait_until(lambda: run.poll() is not None or len(set(ranks_of(run.pid)) - set(everything)) >= 2)
        said = run.communicate(timeout=240)[0]

    assert run.returncode == 0, said
    assert act.output.read_bytes() == alone
    assert wait_for_ends(everything) == []


def test_a_lost_torchrun_is_started_again(tmp_path: Path, llama: Path, alone: bytes) -> None:
    """The agent killed takes all ranks along; another one is started, also where rows are dealt beforehand."""
    act = Act(tmp_path, llama)
    with act.playing(act.run("--on", "torchrun:2", "--strategy", "static")) as run:
        wait_until(lambda: act.answered() >= 4, run)
        everything = below(run.pid)
        strike(agent_of(run.pid).pid)
        said = run.communicate(timeout=240)[0]

    assert run.returncode == 0, said
    assert act.output.read_bytes() == alone
    assert wait_for_ends(everything) == []


def test_an_agent_that_is_lost_for_good_leaves_a_run_that_resumes(tmp_path: Path, llama: Path, alone: bytes) -> None:
    """With no starts left the run ends with 4 and the line that resumes; resumed elsewhere it ends complete."""
    act = Act(tmp_path, llama)
    launch = ["launch", "torchrun", "--workers", "2", "--agents", "0", "--"]
    with act.playing([*launch, *act.run()]) as run:
        wait_until(lambda: act.answered() >= 4, run)
        everything = below(run.pid)
        strike(agent_of(run.pid).pid)
        said = run.communicate(timeout=240)[0]

    assert run.returncode == 4, said
    assert "tokenmill resume" in said
    assert wait_for_ends(everything) == []
    code, said = act.play(["resume", "x", "--on", "none", "--quiet"])
    assert code == 0, said
    assert act.output.read_bytes() == alone


@pytest.mark.parametrize("kind", ["processes", "torchrun"])
def test_a_killed_driver_leaves_no_orphan(tmp_path: Path, llama: Path, alone: bytes, kind: str) -> None:
    """Everything it started ends with it; resume launches the same again and ends complete."""
    act = Act(tmp_path, llama)
    with act.playing(act.run("--on", f"{kind}:2")) as run:
        wait_until(lambda: act.answered() >= 4, run)
        everything = below(run.pid)
        strike(run.pid)
        run.wait()
        assert len(everything) >= 2
        assert wait_for_ends(everything) == []

    code, said = act.play(["resume", "x", "--quiet"])

    assert code == 0, said
    assert act.output.read_bytes() == alone


def test_an_interrupt_finishes_what_is_in_flight(tmp_path: Path, llama: Path, alone: bytes) -> None:
    """Ctrl-C reaches the driver alone: it ends with 4, all workers leave, and the run goes on later."""
    act = Act(tmp_path, llama)
    with act.playing(act.run("--on", "processes:2")) as run:
        wait_until(lambda: act.answered() >= 4, run)
        everything = below(run.pid)
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=240)[0]

    assert run.returncode == 4, said
    assert "interrupted by SIGINT" in said
    assert act.attempts().keys() <= {"answered"}
    assert wait_for_ends(everything) == []
    code, said = act.play(["resume", "x", "--quiet"])
    assert code == 0, said
    assert act.output.read_bytes() == alone


def agent_of(driver: int) -> psutil.Process:
    """The agent of torchrun."""
    (agent,) = [each for each in below(driver) if "torch.distributed.run" in each.cmdline()]
    return agent

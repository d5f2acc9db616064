"""What can't be launched is refused in one line, with cause and remedy, before anything is started."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from cli.desk import Desk
from cli.tiny_model import write_tiny_model
from tokenmill.engine.local.machine import usable_cores
from tokenmill.errors import UsageError
from tokenmill.launch.invitation import FILE_VARIABLE
from tokenmill.launch.slurm import commands
from tokenmill.launch.slurm.commands import NEEDED
from tokenmill.launch.surroundings import SEAT_VARIABLE, rank_environment

MANY = 4 * usable_cores()
REFUSED = {
    "launcher": (("--on", "nowhere:2"), ("no launcher 'nowhere'", "known: processes, torchrun")),
    "no number": (("--on", "processes"), ("'' is no number of workers", "write KIND:WORKERS")),
    "word": (("--on", "processes:two"), ("'two' is no number of workers", "processes:2")),
    "zero": (("--on", "processes:0"), ("'0' is no number of workers",)),
    "slip": (("--on", "processes:1000000000"), ("'1000000000' is no number of workers",)),
    "ranks beyond all": (("--on", "processes:90000", "--tp", "2"), ("180,000 ranks are more than any", "start fewer")),
    "option": (("--on", "processes:1,speed=9"), ("processes has no option 'speed'", "leave it out")),
    "no pair": (("--on", "torchrun:1,restarts"), ("'restarts' is no option", "NAME=VALUE")),
    "restarts": (("--on", "torchrun:1,restarts=some"), ("restarts is 'some'", "whole number")),
    "ranks": (("--on", f"processes:{MANY}"), (f"{MANY} ranks x 1 threads", "cores can be used here", "--force")),
    "threads": (("--on", "processes:1", "--threads", str(MANY)), (f"1 ranks x {MANY} threads", "--force")),
    "torchrun ranks": (("--on", f"torchrun:{MANY}"), (f"{MANY} ranks x 1 threads", "--force")),
    "heads": (("--on", "processes:1", "--tp", "3", "--force"), ("3", "heads", "share")),
    "node": (("--on", "processes:1", "--node", "local:demo"), ("takes one --model and no --node",)),
    "together": (
        ("--on", "processes:1", "--strategy", "auto", "--together", "no"),
        ("--together no uses one", "leave one of them out"),
    ),
    "strategy": (("--on", "processes:1", "--strategy", "quick"), ("unknown strategy 'quick'",)),
    "divider": (("--on", "processes:1", "--tp-engine", "deepspeed"), ("give --tp 2 or more", "--tp-engine native")),
    "divider alone": (("--tp-engine", "deepspeed"), ("give --tp 2 or more",)),
    "force alone": (("--force",), ("--force is for workers that a launcher starts", "add --on KIND:WORKERS")),
    "nowhere": (("--on", "none", "--tp", "2"), ("--on none starts no workers, so --tp", "leave one of them out")),
    "odd": (("--on", "empty=flag"), ("--odd empty=flag", "--on says where")),
}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    write_tiny_model(tmp_path / "model")
    return Desk(tmp_path)


@pytest.mark.parametrize("case", REFUSED)
def test_what_cant_be_launched(desk: Desk, case: str) -> None:
    """Exit code 2, one line, no run and no process."""
    words, parts = REFUSED[case]

    ended = desk.call("run", "ok.txt", "--model", "model", *words, "-o", "out.jsonl")

    check(desk, ended.code, ended.err, parts)


@pytest.mark.parametrize("kind", ["processes", "torchrun"])
def test_a_model_that_deepspeed_cant_divide(desk: Desk, gpt2: Path, kind: str) -> None:
    """`run --on` refuses it as `launch` does, whether or not DeepSpeed is there: with the reason, and what can."""
    words = ("--on", f"{kind}:1", "--tp", "2", "--tp-engine", "deepspeed", "--force")

    ended = desk.call("run", "ok.txt", "--model", str(gpt2), *words, "-o", "out.jsonl")

    check(desk, ended.code, ended.err, ("gpt2: DeepSpeed's AutoTP doesn't support it", "use --tp-engine native"))


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="DeepSpeed is in this environment")
@pytest.mark.parametrize("kind", ["processes", "torchrun"])
def test_a_divider_that_isnt_installed(desk: Desk, llama: Path, kind: str) -> None:
    """Ranks of this machine would not find it either, so none is started."""
    words = ("--on", f"{kind}:1", "--tp", "2", "--tp-engine", "deepspeed", "--force")

    ended = desk.call("run", "ok.txt", "--model", str(llama), *words, "-o", "out.jsonl")

    check(desk, ended.code, ended.err, ("needs DeepSpeed, which isn't installed here", "use --tp-engine native"))


LAUNCHED = {
    "no dashes": (("processes", "run", "ok.txt", "--model", "model"), ("no such option '--model'", "-- before 'run'")),
    "endless silence": (("processes", "--silence", "inf", "--", "run", "ok.txt"), ("inf is no finite number",)),
    "nothing": (("processes",), ("nothing can't be launched", "write -- and then run")),
    "another command": (("torchrun", "--", "status", "last"), ("'status' can't be launched",)),
    "twice": (
        ("processes", "--workers", "1", "--", "run", "ok.txt", "--model", "model", "--on", "processes:1"),
        ("--on, --tp, --tp-engine and --force go before the --",),
    ),
    "too many": (
        ("torchrun", "--workers", str(MANY), "--", "run", "ok.txt", "--model", "model"),
        (f"{MANY} ranks x 1 threads",),
    ),
    "unknown": (("cloud", "--", "run", "ok.txt"), ("no launcher 'cloud'", "known: processes")),
    "behind": (("processes", "--", "run", "ok.txt", "--no-such-option"), ("--no-such-option",)),
}


@pytest.mark.parametrize("case", LAUNCHED)
def test_what_cant_be_launched_in_the_long_form(desk: Desk, case: str) -> None:
    """`tokenmill launch` refuses as `run --on` does."""
    words, parts = LAUNCHED[case]

    ended = desk.call("launch", *words)

    check(desk, ended.code, ended.err, parts)


SCRIPTS = {
    "input": (("--", "run", "none.txt", "--model", "model"), ("none.txt: no such file",)),
    "model": (("--", "run", "ok.txt", "--model", "none"), ("model 'none'", "there is no such folder")),
    "option": (("--", "run", "ok.txt", "--modle", "model"), ("'--modle'",)),
    "nothing": (("--", "run"), ("'SOURCE'",)),
    "silence": (("--silence", "nan", "--", "run", "ok.txt", "--model", "model"), ("nan is no finite number",)),
    "two variables": (("--env", "A=1\nB=2", "--", "run", "ok.txt"), ("--env 'A'", "in one line")),
    "no module": (("--module", "", "--", "run", "ok.txt"), ("--module '' can't be used",)),
    "no variable": (("--env", "A", "--", "run", "ok.txt"), ("--env 'A' can't be used; write NAME=VALUE",)),
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_no_script_is_shown_of_a_run_that_cant_be(desk: Desk, case: str) -> None:
    """`launch slurm --dry-run` checks the run's options and input, on any machine."""
    words, parts = SCRIPTS[case]

    ended = desk.call("launch", "slurm", "--dry-run", *words)

    assert ended.out == ""
    check(desk, ended.code, ended.err, parts)


def test_a_controller_that_cant_be_reached_is_no_refusal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sbatch is installed and finds no cluster, the line says what else to do."""
    for name in NEEDED:
        command = desk.write(name, "#!/bin/sh\necho 'error: resolve_ctls_from_dns_srv: no host' >&2\nexit 1\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(desk.folder), prepend=os.pathsep)

    with pytest.raises(UsageError, match=r"can't be reached from here.*nothing was submitted.*--on processes:N"):
        commands.test_script("#!/bin/sh\n")


@pytest.mark.parametrize("kind", ["processes", "torchrun"])
def test_what_was_meant_for_another_rank_isnt_passed_on(desk: Desk, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A driver inside a job has a seat and a join file in its environment; its own ranks find it all the same."""
    monkeypatch.setenv(SEAT_VARIABLE, "nobody")
    monkeypatch.setenv(FILE_VARIABLE, str(desk.folder / "none"))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "7")
    desk.environment |= {name: os.environ[name] for name in (SEAT_VARIABLE, FILE_VARIABLE)}

    assert "TORCHELASTIC_RESTART_COUNT" not in rank_environment(1, {})
    ended = desk.process(
        "run", "ok.txt", "--model", "model", "--max-tokens", "2", "--on", f"{kind}:1", "-o", "out.jsonl"
    )

    assert ended.code in (0, 3), ended.err
    assert len(desk.read("out.jsonl").splitlines()) == 3


def check(desk: Desk, code: int, said: str, parts: tuple[str, ...]) -> None:
    assert code == 2, said
    assert said.startswith("tokenmill")
    assert said.count("\n") == 1, said
    for part in parts:
        assert part in said
    assert desk.made_runs() == []
    assert not (desk.folder / "out.jsonl").exists()
    started = [each.cmdline() for each in psutil.Process().children()]
    assert not any("tokenmill" in word for line in started for word in line), started

"""The script of a run: what it says, that a shell can read it, and that SLURM takes it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tokenmill.errors import UsageError
from tokenmill.launch.slurm import commands
from tokenmill.launch.slurm.allocation import Allocation
from tokenmill.launch.slurm.script import write_script
from tokenmill.testing.slurm import SlurmCluster

FULL = Allocation(
    tasks=3,
    nodes=3,
    cpus=1,
    gpus="1",
    memory="500M",
    time="00:04:00",
    partition="debug",
    account="lab",
    qos="high",
    elements=4,
    throttle=2,
    environment=("SAID=it's $HOME `now`", "EMPTY="),
    setup=("umask 077",),
    container=("env", "INSIDE=a b"),
    extra=('--comment=a "quoted" b', "--exclusive"),
    python="/opt/some python/bin/python3",
)


def test_all_that_was_asked_for_is_in_it() -> None:
    """Every part of an allocation has its line, and the run's folder is one word wherever it stands."""
    text = write_script(Path("/data/my runs/x"), "tokenmill-x", FULL)
    options = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    assert options == [
        "--job-name=tokenmill-x",
        '--output="/data/my runs/x/slurm/%A_%a.log"',
        "--open-mode=append",
        "--signal=B:USR1@60",
        "--nodes=3",
        "--ntasks=3",
        "--cpus-per-task=1",
        "--gpus-per-task=1",
        "--mem=500M",
        "--time=00:04:00",
        "--partition=debug",
        "--account=lab",
        "--qos=high",
        "--array=0-3%2",
        "--no-kill",
        "--requeue",
        '--comment="a \\"quoted\\" b"',
        "--exclusive",
    ]
    assert "export SAID='it'\"'\"'s $HOME `now`'" in text
    assert "env 'INSIDE=a b' '/opt/some python/bin/python3' -P -m tokenmill.launch.rank" in text
    assert "TOKENMILL_TP" not in text
    assert text.index("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK") < text.index("\nsrun ")


def test_a_folder_that_would_end_a_line_is_refused() -> None:
    """Nothing in a name becomes a line of the script."""
    with pytest.raises(UsageError, match=r"'/data/a\\nb': control characters can't stand in a script"):
        write_script(Path("/data/a\nb"), "x", Allocation())


def test_groups_are_told_their_size() -> None:
    """Ranks of tensor parallel groups learn how many belong together."""
    assert "export TOKENMILL_TP=2\n" in write_script(Path("/data/x"), "x", Allocation(tasks=4), tp=2)


def test_modules_need_a_login_shell() -> None:
    """`module` is a function of login shells; a module that isn't there ends the job with its name."""
    text = write_script(Path("/data/x"), "x", Allocation(modules=("cuda/12.4",)))
    assert text.startswith("#!/bin/bash -l\n")
    assert "module load cuda/12.4 || exit 2\n" in text


@pytest.mark.parametrize("allocation", [Allocation(), FULL, Allocation(elements=2), Allocation(modules=("a",))])
def test_a_shell_can_read_it(allocation: Allocation) -> None:
    """Bash finds no fault in the script's grammar."""
    text = write_script(Path("/data/it's $HERE/x"), "x", allocation)
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_slurm_takes_it(cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sbatch --test-only` passes with every option at once."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    said = commands.test_script(write_script(cluster.folder / "my runs" / "x", "tokenmill-x", FULL))
    assert "to start at" in said
    assert cluster.run("squeue", "-h") == ""

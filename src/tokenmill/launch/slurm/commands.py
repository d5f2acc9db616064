"""SLURM's own commands, and what they answer; the only place that starts them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tokenmill.errors import TokenmillError, UsageError
from tokenmill.launch.slurm.state import (
    SACCT_FORMAT,
    SQUEUE_FORMAT,
    Element,
    read_sacct,
    read_scontrol,
    read_squeue,
)

NEEDED = ("sbatch", "squeue", "scontrol", "scancel")
#: Seconds after which a command that doesn't answer is given up; a busy controller takes some.
PATIENCE = 60.0
#: What sbatch says where it doesn't find the controller, or gets no word from it.
_UNREACHABLE = re.compile(
    "resolve_ctls_from_dns_srv|establish a configuration source|contact slurm controller|Connection refused|timed out"
)
#: What it says where the controller took its time; it may have taken the job all the same.
_TIMED_OUT = "Socket timed out"
_PERHAPS = "The job may have been taken all the same: see squeue --me, cancel it if it is there, then resume the run"


class SlurmSilent(TokenmillError):
    """A command of SLURM failed or gave no answer; the job isn't touched by that."""


def check_commands() -> None:
    """Raises `UsageError` where SLURM's commands are missing."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise UsageError(
            f"no {missing[0]} on this machine; type the line on a host of the cluster where sbatch works, or use "
            "--on processes:N to stay on this one"
        )


def test_script(text: str) -> str:
    """What the controller says of a script that it doesn't run; raises `UsageError` with its reason to refuse it."""
    code, _, said = _call("sbatch", "--test-only", given=text)
    if code:
        raise _refused(said)
    return _reason(said)


def submit(script: Path) -> str:
    """Hands a script over; the number of the job, or of the array.

    Raises `UsageError` if SLURM doesn't take it, `SlurmSilent` where nobody knows whether it did.
    """
    try:
        code, out, said = _call("sbatch", "--parsable", str(script))
    except SlurmSilent as error:
        raise SlurmSilent(f"{error} {_PERHAPS}") from error
    number = out.strip().partition(";")[0]
    if code or not re.fullmatch(r"\d+", number):
        if _TIMED_OUT in said:
            raise SlurmSilent(f"sbatch: {_reason(said)}. {_PERHAPS}")
        raise _refused(said or out)
    return number


def _refused(said: str) -> UsageError:
    reason = _reason(said)
    if _UNREACHABLE.search(said):
        return UsageError(
            f"SLURM's controller can't be reached from here ({reason}); nothing was submitted; try a host where sinfo "
            "answers, or use --on processes:N to stay on this machine"
        )
    return UsageError(f"SLURM refuses the job: {reason}; nothing was submitted")


def look(number: str, name: str = "") -> list[Element]:
    """A job, or all elements of an array, as they are now; empty if SLURM has forgotten it.

    With `name`, a job of that number with another name isn't it: on another cluster, which sees the same folders, the
    number is somebody else's.
    """
    return [each for each in _looked(number) if not name or each.name in ("", name)]


def _looked(number: str) -> list[Element]:
    """squeue knows what waits and works, and for a while what has ended; scontrol adds how it ended.

    sacct, where there is accounting, knows of it for good.
    """
    code, out, _ = _call("scontrol", "show", "-o", "job", number)
    if code == 0 and (found := read_scontrol(out)):
        return found
    code, out, said = _call("squeue", "-h", "-j", number, "-t", "all", "-o", SQUEUE_FORMAT)
    if code == 0 and (found := read_squeue(out)):
        return found
    if code and "Invalid job id" not in said:
        raise SlurmSilent(f"squeue: {_reason(said)}")
    return _accounted(number)


def _accounted(number: str) -> list[Element]:
    """From sacct; nothing where accounting is off, or where sacct isn't installed."""
    if shutil.which("sacct") is None:
        return []
    code, out, _ = _call("sacct", "-n", "-P", "-X", "-j", number, "-o", SACCT_FORMAT)
    return read_sacct(out) if code == 0 else []


def cancel(number: str, *, pending_only: bool = False) -> None:
    """Ends a job with all its elements; fine for one that has ended."""
    code, _, said = _call("scancel", "--quiet", *(("--state=PENDING",) if pending_only else ()), number)
    if code and "Invalid job id" not in said:
        raise SlurmSilent(f"scancel: {_reason(said)}")


def requeue(number: str) -> None:
    """Puts a job, or one element, back into the queue; what it did so far is in the record."""
    code, _, said = _call("scontrol", "requeue", number)
    if code:
        raise SlurmSilent(f"scontrol requeue: {_reason(said)}")


def node_hosts(partition: str | None) -> list[tuple[str, str]]:
    """(address, host name) of the nodes of a partition, or of the default one, or of all where there is none."""
    words = ["-p", partition] if partition else []
    code, out, said = _call("sinfo", "-h", "-N", *words, "-o", "%o|%n|%P")
    if code:
        raise SlurmSilent(f"sinfo: {_reason(said)}")
    lines = [line.strip().split("|") for line in out.splitlines()]
    chosen = [line for line in lines if line[-1].endswith("*")] if partition is None else []
    return sorted({(line[0], line[1]) for line in chosen or lines if len(line) == 3})


def _call(*words: str, given: str | None = None) -> tuple[int, str, str]:
    """Exit status, output and errors; in the C locale, whose words are those that are read here."""
    try:
        done = subprocess.run(
            words,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            env=os.environ | {"LC_ALL": "C", "SLURM_TIME_FORMAT": "standard"},
        )
    except FileNotFoundError as error:
        raise SlurmSilent(f"no {words[0]} on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmSilent(f"{words[0]} gave no answer within {PATIENCE:.0f} s; is the controller up?") from error
    return done.returncode, done.stdout, done.stderr


def _reason(said: str) -> str:
    """The line that says most, without the name of the program in front."""
    lines = [re.sub(r"^\w+: (?:error: |fatal: )?", "", line.strip()) for line in said.splitlines() if line.strip()]
    wordy = [line for line in lines if "Batch job submission failed" not in line] or lines
    return wordy[0][:300] if wordy else "it gave no reason"

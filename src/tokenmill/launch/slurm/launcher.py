"""The launcher of a run whose driver is inside an allocation: it tells ranks where the door is.

The batch script has started the ranks, one for each task, and starts them again (see `script`); in an allocation that
a user opened by hand they are started here, by one `srun`. Either way they read the join file in the run's folder
until they find a driver, so a driver that is started again, elsewhere too, has its workers within seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenmill.errors import TokenmillError, UsageError
from tokenmill.footprint import OwnProcess
from tokenmill.launch.invitation import FILE_VARIABLE, Invitation
from tokenmill.launch.launcher import Standing, Work
from tokenmill.launch.member import Member
from tokenmill.launch.slurm.allocation import Allocation, parse_allocation
from tokenmill.launch.slurm.commands import check_commands, test_script
from tokenmill.launch.slurm.place import ELEMENT_VARIABLE, RANKS_VARIABLE, is_inside, join_file
from tokenmill.launch.slurm.script import write_script
from tokenmill.launch.spec import On

#: Seconds that ranks have to leave after they were told to.
GRACE = 10.0
#: Seconds for which the driver of an array without ranks of its own waits for those of other elements.
PATIENCE = 300.0


class Slurm:
    """Workers of one allocation, or of all elements of an array."""

    remote = True

    def __init__(self, on: On, work: Work) -> None:
        self._on = on
        self._folder = work.folder
        self.allocation: Allocation = parse_allocation(on.options, on.ranks)
        self._step: subprocess.Popen[bytes] | None = None
        self._alone_since: float | None = None

    def check(self) -> None:
        """Inside an allocation there is little to refuse; elsewhere SLURM is asked whether it would take the job."""
        if is_inside():
            if ELEMENT_VARIABLE not in os.environ and shutil.which("srun") is None:
                raise UsageError("no srun on this host; start the run on a node of the allocation")
            return
        check_commands()
        test_script(write_script(self._folder or Path.cwd(), "tokenmill-test", self.allocation, self._on.tp))

    async def start(self, invitation: Invitation) -> None:
        assert self._folder is not None, "a run that starts has a folder"
        if not is_inside():
            raise UsageError(
                "no SLURM allocation here; 'tokenmill launch slurm -- run ...' submits the run, or open one with salloc"
            )
        file = join_file(self._folder)
        try:
            file.parent.mkdir(mode=0o700, exist_ok=True)
            invitation.write(file)
        except OSError as error:
            raise UsageError(f"{file}: can't be written ({error.strerror}), so no worker would find the run") from error
        if ELEMENT_VARIABLE not in os.environ:
            self._step = self._srun()

    async def poll(self, present: Sequence[Member]) -> Standing:
        if self._step is not None and (code := self._step.poll()) is not None:
            return Standing(over=f"srun ended with status {code}; its ranks are gone")
        if not is_gone(os.environ.get(RANKS_VARIABLE, "")) or present:
            self._alone_since = None
            return Standing()
        now = time.monotonic()
        self._alone_since = self._alone_since or now
        if self.allocation.is_array and now - self._alone_since < PATIENCE:
            return Standing()
        return Standing(over="srun ended, and all ranks of the job with it; the job's log has its reason")

    def dismiss(self, member: Member) -> None:
        """A rank that the driver hears no more hears no driver either, and leaves by itself."""

    def part(self, member: Member) -> None:
        """It is a process of SLURM's, mostly elsewhere."""

    async def stop(self) -> None:
        if self._folder is not None:
            with contextlib.suppress(OSError):
                join_file(self._folder).unlink(missing_ok=True)
        step, self._step = self._step, None
        if step is not None:
            await asyncio.to_thread(_ended, step)

    def fresh_processes(self) -> Iterable[tuple[str, OwnProcess]]:
        return ()

    def _srun(self) -> subprocess.Popen[bytes]:
        assert self._folder is not None, "a run that starts has a folder"
        words = ["srun", "--no-kill", "--kill-on-bad-exit=0", "--overlap", "--input=none", "--unbuffered"]
        words += [f"--ntasks={self._on.ranks}"]
        words += [*self.allocation.container, sys.executable, "-P", "-m", "tokenmill.launch.rank"]
        environment = os.environ | {FILE_VARIABLE: str(join_file(self._folder)), "TOKENMILL_TP": str(self._on.tp)}
        if per_rank := environment.get("SLURM_CPUS_PER_TASK"):
            environment["SRUN_CPUS_PER_TASK"] = per_rank  # srun doesn't take it over from the allocation
        try:
            return subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            raise TokenmillError(f"srun can't be started ({error.strerror})") from error


def is_gone(holder: str) -> bool:
    """Whether the process that holds the ranks has ended, as the batch script told of it: `PID NAMESPACE`.

    Where none is told of there is none to end, and of one in another namespace, as seen from a container with its own
    processes, nobody can say here.
    """
    pid, _, namespace = holder.partition(" ")
    try:
        if not pid.isdecimal() or str(Path("/proc/self/ns/pid").readlink()) != namespace:
            return False
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _ended(step: subprocess.Popen[bytes]) -> None:
    """Waits for a step; ranks that don't leave are killed with it."""
    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGKILL):
        try:
            step.wait(GRACE)
        except subprocess.TimeoutExpired:
            step.send_signal(number)
        else:
            return
    step.wait()

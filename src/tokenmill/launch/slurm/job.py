"""The job that works on a run: submitted, noted in the run's folder, and known from one look to the next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from tokenmill.errors import UsageError
from tokenmill.launch.slurm import commands
from tokenmill.launch.slurm.allocation import Allocation
from tokenmill.launch.slurm.commands import SlurmSilent
from tokenmill.launch.slurm.place import job_file, script_file, slurm_folder
from tokenmill.launch.slurm.script import write_script
from tokenmill.launch.slurm.sharing import check_shared
from tokenmill.launch.slurm.state import Element
from tokenmill.record.lock import RunLock

#: Bytes of a log's end in which the reason of a failure is looked for.
TAIL = 16384
#: Looks in a row that must see the end: a job on its way back into the queue looks failed for a moment.
ENDS = 3


class Job(Struct, frozen=True, kw_only=True):
    """A job by its number, which is that of the whole array if it is one, and by its name."""

    number: str
    name: str = ""


class News(Struct, frozen=True, kw_only=True):
    """What a look at a job brought: lines to tell, elements that lost their driver's node, and whether it is over."""

    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    over: bool = False


def name_of(run_id: str) -> str:
    return f"tokenmill-{run_id}"


def check_allocation(allocation: Allocation, folder: Path) -> None:
    """Raises `UsageError` if SLURM would refuse the job, or its nodes wouldn't see `folder`; submits nothing."""
    commands.check_commands()
    if not allocation.shared:
        check_shared(folder, commands.node_hosts(allocation.partition))
    commands.test_script(write_script(folder, name_of("test"), allocation))


def lock_jobs(folder: Path) -> RunLock:
    """For whoever looks for the job of a run and submits one if there is none: two at once would submit two."""
    try:
        slurm_folder(folder).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: can't be written to ({error.strerror}); nothing was submitted") from error
    return RunLock(slurm_folder(folder))


def submit(folder: Path, allocation: Allocation, tp: int = 1) -> Job:
    """Writes the script into the run's folder and queues it."""
    try:
        slurm_folder(folder).mkdir(mode=0o700, exist_ok=True)
        file = script_file(folder)
        file.touch(mode=0o700)
        file.write_text(write_script(folder, name_of(folder.name), allocation, tp), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: the script can't be written ({error.strerror}); nothing was submitted") from error
    number = commands.submit(file)
    job = Job(number=number, name=_name_there(number))
    try:
        job_file(folder).write_bytes(msgspec.json.encode(job))
    except OSError as error:  # nobody would know of it
        commands.cancel(job.number)
        raise UsageError(
            f"{job_file(folder)}: can't be written ({error.strerror}), so job {job.number} was cancelled"
        ) from error
    return job


def _name_there(number: str) -> str:
    """What SLURM calls the job: an environment or a site may rename it. Empty if that isn't to be heard now."""
    try:
        return next((each.name for each in commands.look(number)), "")
    except SlurmSilent:
        return ""


def noted_job(folder: Path) -> Job | None:
    """The last job that was submitted for a run."""
    try:
        return msgspec.json.decode(job_file(folder).read_bytes(), type=Job)
    except (OSError, msgspec.DecodeError):
        return None


def live_job(folder: Path) -> Job | None:
    """The job of a run that may still do something, on the cluster where it was submitted."""
    job = noted_job(folder)
    if job is None:
        return None
    return job if any(not each.is_over for each in elements_of(job)) else None


def elements_of(job: Job) -> list[Element]:
    """The job as SLURM has it now; empty if this cluster doesn't know it, or has forgotten it."""
    commands.check_commands()
    return commands.look(job.number, job.name)


class Follower:
    """Turns looks at a job into news; tells each state once."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.elements: list[Element] = []
        self._told = ""
        self._is_silent = False
        self._ends = 0
        self._let_go: set[str] = set()

    def hear(self, elements: Sequence[Element]) -> News:
        """What is new; SLURM forgets jobs some time after their end, so none is an end too."""
        self._is_silent = False
        self.elements = list(elements) or self.elements
        lost = {each.number for each in elements if each.has_lost_its_script}
        self._let_go &= lost
        notes = []
        state = self.describe(elements)
        if state and state != self._told:
            self._told = state
            notes.append(f"job {self.job.number}: {state}")
        self._ends = self._ends + 1 if all(each.is_over for each in elements) else 0
        return News(notes=tuple(notes), lost=tuple(sorted(lost - self._let_go)), over=self._ends >= ENDS)

    def let_go(self, number: str, *, again: bool) -> News:
        """SLURM has taken back an element that nobody would end; until it has, each look brings it again."""
        self._let_go.add(number)
        what = "goes back into the queue and resumes" if again else "is cancelled"
        return News(notes=(f"job {number}: the node of its driver is lost; it {what}",))

    def miss(self, error: SlurmSilent) -> News:
        """SLURM gave no answer, which is told once until it does."""
        was, self._is_silent = self._is_silent, True
        return News(notes=() if was else (f"{error}; looking again",))

    @staticmethod
    def describe(elements: Sequence[Element]) -> str:
        """One line: a job's state, or how many elements of an array are in each."""
        if len(elements) == 1:
            return str(elements[0])
        states = Counter(each.state.lower().replace("_", " ") for each in elements)
        return ", ".join(f"{number} {state}" for state, number in sorted(states.items()))


def last_words(log: Path) -> str:
    """The last line of a log that isn't data: most often why a job failed."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    plain = [line.strip() for line in lines if line.strip() and not line.startswith(("{", "srun: ", "slurmstepd: "))]
    return plain[-1][:500] if plain else ""


def cancel_line(job: Job) -> str:
    return f"scancel {shlex.quote(job.number)}"

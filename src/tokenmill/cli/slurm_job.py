"""A run on a SLURM cluster as its user sees it: submitted, followed to its end, and shown like any other run.

Whoever follows only reads: the driver inside the job alone writes the record. Ctrl-C leaves the job to itself unless
the user wants it cancelled; `tokenmill resume` follows it again, or submits another if it has ended.
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import msgspec
from msgspec.structs import replace

from tokenmill.cli.pace import Facts
from tokenmill.cli.progress import Silent, watcher
from tokenmill.cli.screen import printable, tell
from tokenmill.cli.story_counts import StoryCounts, stories_in
from tokenmill.driver.options import Settings, as_data
from tokenmill.driver.prepare import RECORD
from tokenmill.driver.progress import Progress
from tokenmill.errors import TokenmillError, UsageError
from tokenmill.launch.slurm import commands
from tokenmill.launch.slurm.allocation import Allocation, parse_allocation
from tokenmill.launch.slurm.commands import SlurmSilent
from tokenmill.launch.slurm.element import is_finished
from tokenmill.launch.slurm.job import (
    Follower,
    Job,
    cancel_line,
    check_allocation,
    last_words,
    live_job,
    lock_jobs,
    submit,
)
from tokenmill.launch.slurm.place import is_inside, logs
from tokenmill.launch.spec import On
from tokenmill.record.folder import read_manifest, write_manifest
from tokenmill.record.lock import is_locked
from tokenmill.record.place import shared_kind
from tokenmill.record.store import Counts, Record

#: Seconds between two looks at the record, and at the job.
LOOK_EVERY = 0.5
ASK_EVERY = 1.0
#: Bytes of a log's end in which the last line of progress is looked for.
TAIL = 65536
KIND = "slurm"


class LeftAlone(TokenmillError):
    """Nobody follows the job any more; the run isn't finished."""

    exit_code = 4


def is_for_a_job(settings: Settings) -> bool:
    """Whether this process can only have the run carried out, by a job that works elsewhere."""
    return settings.on is not None and settings.on.kind == KIND and not is_inside()


def settled(on: On) -> On:
    """With seats for the workers of all elements of an array."""
    elements = parse_allocation(on.options, on.ranks).elements
    return replace(on, most=on.workers * elements) if elements > 1 else on


def have_done(folder: Path, settings: Settings, *, as_json: bool, quiet: bool) -> None:
    """Submits the run, unless a job of it is still there, and follows that to its end.

    Raises:
        UsageError: SLURM refuses the job, or its nodes wouldn't see the folder; nothing was submitted.
        LeftAlone: Ctrl-C, or a job that ended before the run did.
    """
    assert settings.on is not None, "a run without --on has no job"
    allocation = parse_allocation(settings.on.options, settings.on.ranks)
    record = Record(folder / RECORD)
    before = record.counts()
    record.close()
    stories = stories_in(folder / RECORD, read_manifest(folder))
    if not before.unfinished:
        return
    job = _job(folder, settings, allocation, quiet=quiet)
    watching = watcher(folder, before, stories, quiet=quiet, as_json=as_json)
    try:
        _follow(folder, job, allocation, before, stories, watching, quiet=quiet)
    finally:
        watching.close()


def _job(folder: Path, settings: Settings, allocation: Allocation, *, quiet: bool) -> Job:
    """The job that is there, or a new one; never a second, whoever else asks at the same time."""
    assert settings.on is not None, "a run without --on has no job"
    lock = lock_jobs(folder)
    try:
        if (job := live_job(folder)) is not None:
            return job
        check_allocation(allocation, folder)
        keep_settings(folder, replace(settings, on=settled(settings.on)))
        job = submit(folder, allocation, settings.on.tp)
    finally:
        lock.release()
    if not quiet:
        tell(f"tokenmill: submitted job {job.number}; its log is in {folder / 'slurm'}")
    return job


def keep_settings(folder: Path, settings: Settings) -> None:
    """The driver in the job takes its settings from the manifest."""
    manifest = read_manifest(folder)
    manifest.settings = as_data(settings)
    write_manifest(folder, manifest)


def _follow(
    folder: Path,
    job: Job,
    allocation: Allocation,
    before: Counts,
    stories: StoryCounts | None,
    watching: Silent,
    *,
    quiet: bool,
) -> None:
    follower = Follower(job)
    start = time.monotonic()
    seen = Progress(rows=before.unfinished)
    next_ask = 0.0
    try:
        while True:
            now = time.monotonic() - start
            over = False
            if now >= next_ask:
                over = _ask(follower, allocation, seen)
                next_ask = now + ASK_EVERY
            update(seen, folder, before, stories)
            if not quiet:
                watching.watch(seen, now)
            if over or has_ended(folder, seen):
                break
            time.sleep(LOOK_EVERY)
    except KeyboardInterrupt:
        watching.close()
        _leave(job, allocation)
    _check_end(folder, follower)


def has_ended(folder: Path, seen: Progress) -> bool:
    """Whether the driver is through; its job may take longer, as SLURM waits for nodes that are lost."""
    return seen.answered + seen.failed_total >= seen.rows and not is_locked(folder) and is_finished(folder)


def _ask(follower: Follower, allocation: Allocation, seen: Progress) -> bool:
    """A look at the job; whether it is over."""
    try:
        news = follower.hear(commands.look(follower.job.number, follower.job.name))
        seen.notes += news.notes
        for number in news.lost:
            if allocation.requeue:
                commands.requeue(number)
            else:
                commands.cancel(number)
            seen.notes += follower.let_go(number, again=allocation.requeue).notes
    except SlurmSilent as error:
        seen.notes += follower.miss(error).notes
        return False
    return news.over


def update(seen: Progress, folder: Path, before: Counts, stories: StoryCounts | None) -> None:
    """How far the run is: from the record, or where one process has that to itself, from the driver's log.

    `before` and `stories`: what earlier sessions left.
    """
    if shared_kind(folder):
        if (facts := logged_facts(folder)) is not None:
            seen.rows = before.unfinished + facts.rows - before.rows
            seen.ended = facts.stories.ended - stories.ended if facts.stories and stories else 0
            seen.answered = facts.answered - before.answered
            seen.failed = {kind: number - before.failed.get(kind, 0) for kind, number in facts.failed.items()}
            seen.running = facts.running
        return
    record = Record(folder / RECORD)
    try:
        counts = record.counts()
        seen.rows = before.unfinished + counts.rows - before.rows
        seen.answered = counts.answered - before.answered
        seen.failed = {kind: number - before.failed.get(kind, 0) for kind, number in counts.failed.items()}
        seen.running = record.in_flight()
        seen.output_tokens = record.tokens()[1]
    finally:
        record.close()
    now = stories_in(folder / RECORD, read_manifest(folder)) if stories else None
    seen.ended = now.ended - stories.ended if now and stories else 0


def logged_facts(folder: Path) -> Facts | None:
    """The last line of progress in the log that was written to last."""
    for log in reversed(logs(folder)):
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL))
            lines = file.read().splitlines()
        for line in reversed(lines):
            try:
                return msgspec.json.decode(line, type=Facts)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
    return None


def _leave(job: Job, allocation: Allocation) -> None:
    """What Ctrl-C does."""
    if allocation.interrupt == "cancel":
        commands.cancel(job.number)
        raise LeftAlone(f"interrupted; job {job.number} was cancelled")
    raise LeftAlone(f"job {job.number} works on without you; cancel it with: {cancel_line(job)}")


def _check_end(folder: Path, follower: Follower) -> None:
    """Raises the reason if the job ended before the run did."""
    record = Record(folder / RECORD)
    counts = record.counts()
    record.close()
    if not counts.unfinished:
        return
    how = follower.describe(follower.elements) or "is unknown to SLURM"
    found = logs(folder)
    said = next(filter(None, (last_words(log) for log in reversed(found))), "")
    left = f"{counts.answered} of {counts.rows} answered, {counts.unfinished} to go"
    where = f"; see {shlex.quote(str(found[-1]))}" if found else ""
    cause = f" ({printable(said)})" if said else ""
    text = f"job {follower.job.number}: {how}{cause}; {left}{where}"
    ended_at_once = not counts.answered and any(each.code == UsageError.exit_code for each in follower.elements)
    raise (UsageError if ended_at_once else LeftAlone)(text)

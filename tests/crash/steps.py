"""Every durable step of a command, struck one after the other: killed there, or told that the disk is full or broken.

`strace` strikes at the n-th call of one system call. It counts in each thread apart, so a family names the file as
well where several threads write: the log is written by the writer and synced by the syncer, the database only by
checkpoints, and before the writer starts and after it ended there is only one thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crash.scene import RUN, Calm, Scene, Story

KILL = "signal=KILL"
FULL = "error=ENOSPC"
BROKEN = "error=EIO"

WAL = f"runs/{RUN}/record.db-wal"
DATABASE = f"runs/{RUN}/record.db"
RUN_FOLDER = f"runs/{RUN}"


@dataclass(frozen=True)
class Family:
    """All calls of one kind; `path` is the file they touch, or empty for any."""

    syscall: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.syscall} {Path(self.path).name or 'any file'}"


#: More than a run makes.
RENAMES = 8
#: What an answer waits for until it counts.
SYNC = Family("fdatasync", WAL)
SESSION = (
    Family("pwrite64", WAL),
    SYNC,
    Family("pwrite64", DATABASE),
    Family("fdatasync", DATABASE),
    Family("ftruncate", DATABASE),
    Family("fdatasync", RUN_FOLDER),
)
EVERYWHERE = tuple(
    Family(name) for name in ("fsync", "fdatasync", "rename", "write", "unlink", "ftruncate", "pwrite64")
)
FAMILIES = SESSION + EVERYWHERE


@dataclass(frozen=True)
class Strike:
    """A fault at the n-th call of a family; a full disk stays full, other faults come once."""

    fault: str
    family: Family
    number: int

    def __str__(self) -> str:
        return f"{self.fault} at {self.family} {self.number}".replace(" ", "-")

    def wrap(self, scene: Scene, log: Path) -> list[str]:
        keeps = self.fault == FULL and self.family.syscall != "write"  # what the command says is written, too
        when = f"{self.number}+" if keeps else f"{self.number}"
        path = ["-P", str(scene.folder / self.family.path)] if self.family.path else []
        name = self.family.syscall
        inject = f"inject={name}:{self.fault}:when={when}"
        traced = f"trace={name},pwrite64" if self.family == SYNC else f"trace={name}"
        return ["strace", "-f", "-qq", "-o", str(log), "-e", "signal=none", *path, "-e", traced, "-e", inject]


def struck(scene: Scene, calm: Calm, strike: Strike, saved: Path | None = None) -> Story | None:
    """Plays a run, or the resume of a saved one, with this strike, and then to its end; None if it never came."""
    scene.wipe()
    if saved is not None:
        scene.restore(saved)
    story = scene.story(calm)
    log = scene.folder.with_name(f"{scene.folder.name}.strace")
    log.unlink(missing_ok=True)
    heard = len(scene.heard())
    ended = story.act([*scene.next_words(), "-q"], strike.wrap(scene, log))
    if strike.fault == KILL:
        if ended.code != -9:
            return None
    else:
        if "(INJECTED)" not in log.read_text():
            return None
        if ended.code not in (0, 2, 4):
            story.faults.append(f"exit: code {ended.code} after {strike.fault}: {ended.err.strip()[-300:]}")
        if ended.code == 2 and len(scene.heard()) > heard:
            story.faults.append(f"exit: code 2, but something was sent: {ended.err.strip()[-300:]}")
        if ended.code == 4 and "tokenmill resume" not in ended.err:
            story.faults.append(f"exit: code 4 without a way back: {ended.err.strip()[-300:]}")
        if strike.family == SYNC and strike.fault == BROKEN and mattered(log.read_text()):
            if ended.code != 4:
                story.faults.append(f"exit: code {ended.code} after a sync failed")
            if scene.output.exists():
                story.faults.append("exit: an output after a sync failed")
        if ended.code == 0 and scene.product() != calm.file:
            story.faults.append("exit: code 0 without the whole file")
    story.finish()
    return story


def mattered(traced: str) -> bool:
    """Whether something was written to the log, or may have been by a process that died, since the last good sync."""
    unsynced, writes_since = True, False
    for line in traced.splitlines():
        if "(INJECTED)" in line:
            return unsynced
        if "pwrite64(" in line:
            unsynced = writes_since = True
        elif "fdatasync" in line:
            if "fdatasync(" in line:  # it begins; a write from now on isn't covered
                writes_since = False
            if line.endswith("= 0"):
                unsynced = writes_since
    return False


def kill_before_output(scene: Scene) -> None:
    """Leaves a run in which all is answered, but the output has no name: killed at the last rename there is."""
    for number in range(RENAMES, 0, -1):
        scene.wipe()
        strike = Strike(KILL, Family("rename"), number)
        if scene.play(scene.run_words(), strike.wrap(scene, Path(os.devnull))).code == -9:
            return
    raise AssertionError("a run renames nothing")


def numbers(every: int, first: int = 1) -> Iterator[int]:
    """The calls to strike, until the caller meets one that never comes."""
    number = first
    while True:
        yield number
        number += every

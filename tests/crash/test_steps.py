"""A driver that is killed at a durable step, or told there that the disk is full or broken, keeps every promise.

A sample of what `benchmarks/crash.py` does at every step.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from crash.scene import Calm, Scene
from crash.steps import (
    BROKEN,
    DATABASE,
    FULL,
    KILL,
    RUN_FOLDER,
    SYNC,
    WAL,
    Family,
    Strike,
    kill_before_output,
    numbers,
    struck,
)
from requirements import require

LOG = Family("pwrite64", WAL)
PAGES = Family("pwrite64", DATABASE)
RUN = [
    *(Strike(KILL, LOG, number) for number in (1, 40)),
    *(Strike(KILL, SYNC, number) for number in (2, 5)),
    *(Strike(KILL, Family(name), number) for name in ("fsync", "rename") for number in (1, 4)),
    *(Strike(KILL, Family(name), 6) for name in ("fdatasync", "pwrite64", "unlink")),
    Strike(KILL, PAGES, 2),
    Strike(KILL, Family("fdatasync", RUN_FOLDER), 1),
    *(Strike(FULL, family, number) for family in (LOG, SYNC) for number in (1, 5)),
    *(Strike(FULL, Family(name), 4) for name in ("rename", "write")),
    *(Strike(FULL, Family("pwrite64"), number) for number in (4, 36)),  # as the record is made, and as it is filled
    Strike(FULL, Family("fdatasync"), 8),
    Strike(FULL, PAGES, 1),
    *(Strike(BROKEN, family, 5) for family in (LOG, SYNC)),
    *(Strike(BROKEN, Family(name), 2) for name in ("pwrite64", "fsync", "ftruncate")),
    Strike(BROKEN, PAGES, 1),
]
#: An export has one thread only, and this is its first sync of the log.
EXPORT = [Strike(fault, SYNC, 1) for fault in (KILL, FULL, BROKEN)]
RESUME = [Strike(fault, family, 2) for fault in (KILL, FULL, BROKEN) for family in (SYNC, LOG, Family("fsync"))]


@pytest.mark.parametrize("strike", RUN, ids=str)
def test_a_strike_at_a_step_of_a_run(small: tuple[Scene, Calm], strike: Strike) -> None:
    """Whatever step a fault strikes, the command says how to go on, and the end is that of the calm run."""
    require("strace")
    scene, calm = small

    story = struck(scene, calm, strike)

    assert story is not None, "the fault never struck"
    assert story.faults == []


@pytest.mark.parametrize("strike", RESUME, ids=str)
def test_a_strike_at_a_step_of_a_resume(small: tuple[Scene, Calm], half_done: Path, strike: Strike) -> None:
    """A fault during a resume is no worse than one during the run."""
    require("strace")
    scene, calm = small

    story = struck(scene, calm, strike, half_done)

    assert story is not None, "the fault never struck"
    assert story.faults == []


def test_a_strike_at_the_sync_before_an_export(small: tuple[Scene, Calm], tmp_path: Path) -> None:
    """A run that was killed with all answers and no output is exported only after they are synced."""
    require("strace")
    scene, calm = small
    kill_before_output(scene)
    assert len(scene.look().answers) == scene.rows
    assert not scene.output.exists()
    scene.save(tmp_path)

    stories = [struck(scene, calm, strike, tmp_path) for strike in EXPORT]

    assert [story and story.faults for story in stories] == [[]] * len(EXPORT)


def test_a_failed_sync_of_the_last_answer_is_no_success(tmp_path: Path) -> None:
    """Whichever sync of a short run fails, there is exit code 4 and no output, though all answers can be read."""
    require("strace")
    scene = Scene(tmp_path / "few", rows=5, slots=1, delay=0.02)
    calm = scene.calm()
    stories = []
    for number in numbers(1, first=6):  # more than the main thread makes, whose own syncs would be struck as well
        story = struck(scene, calm, Strike(BROKEN, SYNC, number))
        if story is None:
            break
        stories.append(story)

    assert stories, "the writer's last syncs were not struck"
    assert [story.faults for story in stories] == [[]] * len(stories)

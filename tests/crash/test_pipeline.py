"""A run with a recipe that is killed: no round is repeated, no item lost, and the data set is that of the calm run.

A sample of what `benchmarks/pipeline_kills.py` does at a hundred instants and at every durable step.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from crash.data_sets import DataSet, half_done, killed
from crash.scene import Calm
from crash.steps import DATABASE, KILL, RUN_FOLDER, SYNC, WAL, Family, Strike, struck
from requirements import require

#: Every kind of durable step, somewhere in the middle of its calls.
STEPS = [
    Strike(KILL, Family("pwrite64", WAL), 90),
    Strike(KILL, SYNC, 7),
    Strike(KILL, Family("pwrite64", DATABASE), 3),
    Strike(KILL, Family("fdatasync", DATABASE), 1),
    Strike(KILL, Family("ftruncate", DATABASE), 1),
    Strike(KILL, Family("fdatasync", RUN_FOLDER), 1),
    Strike(KILL, Family("fsync"), 8),
    Strike(KILL, Family("rename"), 5),
    Strike(KILL, Family("write"), 9),
    Strike(KILL, Family("unlink"), 3),
    Strike(KILL, Family("pwrite64"), 30),  # as the record is filled
]
SEED = 7


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataSet, Calm]:
    """The scene, and what it gives without a kill."""
    scene = DataSet(tmp_path_factory.mktemp("pipeline"))
    return scene, scene.calm()


def test_the_scene_has_stories_of_every_kind(calm: tuple[DataSet, Calm]) -> None:
    """Rows that succeed at once and later, fall short and fail; a judge that refuses; else a kill would show little."""
    card = calm[0].card

    assert card["outcomes"].keys() == {"failed", "short", "success"}
    assert card["rounds"].keys() == {"1", "2", "3"}
    assert card["rejected_by"].keys() >= {"length", "duplicate", "a stage that judges"}


@pytest.mark.parametrize("number", range(5))
def test_a_killed_data_set_ends_like_the_calm_one(calm: tuple[DataSet, Calm], number: int) -> None:
    """Killed at any instant, a run keeps all it has, asks nothing twice, and ends with the same bytes."""
    assert killed(*calm, random.Random(SEED + number)).faults == []


def test_resumes_that_are_killed_again_and_again(calm: tuple[DataSet, Calm]) -> None:
    """Three kills in a row are no worse than one."""
    assert killed(*calm, random.Random(SEED), kills=3).faults == []


@pytest.mark.parametrize("strike", STEPS, ids=str)
def test_a_kill_at_a_durable_step(calm: tuple[DataSet, Calm], strike: Strike) -> None:
    """Whatever step the process dies at, the data set is that of the calm run."""
    require("strace")
    scene, undisturbed = calm

    story = struck(scene, undisturbed, strike)

    assert story is not None, "the kill never came"
    assert story.faults == []


def test_a_kill_at_a_durable_step_of_a_resume(calm: tuple[DataSet, Calm], tmp_path: Path) -> None:
    """A kill while answers are judged that an earlier session left is no worse."""
    require("strace")
    scene, undisturbed = calm
    saved = half_done(scene, tmp_path)

    story = struck(scene, undisturbed, Strike(KILL, SYNC, 2), saved)

    assert story is not None, "the kill never came"
    assert story.faults == []

"""Engine `local`: its worker is killed, its driver is killed, and one prompt is poison."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from requirements import require

pytest.importorskip("torch")
pytest.importorskip("psutil")

from crash.scene import Calm, Scene
from crash.workers import driver_killed, local_scene, workers_killed

pytestmark = pytest.mark.slow

SEED = 3


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Calm]:
    """A run on the bundled model, and how it ends without any crash."""
    require("linux")
    scene = local_scene(tmp_path_factory.mktemp("local"))
    return scene, scene.calm()


def test_a_killed_worker_costs_no_row(local: tuple[Scene, Calm]) -> None:
    """After kill -9 of the worker, twice at any instant of a run, the run ends by itself with the same bytes."""
    scene, calm = local

    story = workers_killed(scene, calm, random.Random(SEED), kills=2)

    assert story.faults == []
    assert max(scene.look().attempts.values()) > 1, "no worker was killed"


def test_no_worker_outlives_a_killed_driver(local: tuple[Scene, Calm]) -> None:
    """kill -9 of the driver ends its worker, and a resume gives the same bytes."""
    scene, calm = local

    assert driver_killed(scene, calm, random.Random(SEED)).faults == []


def test_one_poison_row_among_32_costs_one_row(local: tuple[Scene, Calm], tmp_path: Path) -> None:
    """A prompt that kills every worker it meets fails as `poison`; all others are answered as ever."""
    poison = 17
    _, calm = local
    scene = local_scene(tmp_path / "poison", {"TOKENMILL_TEST_ABORT_ON": f"crash number {poison}"})

    ended = scene.play(scene.run_words())

    state = scene.look()
    assert ended.code == 3, ended.err
    assert state.failures == {poison: "poison"}
    answers = {row: text for row, (_, text) in state.answers.items()}
    assert answers == {row: text for row, text in calm.texts.items() if row != poison}

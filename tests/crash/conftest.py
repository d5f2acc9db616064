"""Scenes for the stories of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from crash.scene import Calm, Instant, Scene


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Calm]:
    """A run of 24 rows in 4 slots, and how it ends without any crash."""
    scene = Scene(tmp_path_factory.mktemp("small"), rows=24, slots=4)
    return scene, scene.calm()


@pytest.fixture(scope="module")
def half_done(small: tuple[Scene, Calm], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run as a kill left it halfway."""
    scene, _ = small
    scene.wipe()
    scene.play(scene.run_words(), kill=Instant(scene.rows, 0.0))
    saved = tmp_path_factory.mktemp("half")
    scene.save(saved)
    return saved

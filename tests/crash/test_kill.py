"""A driver that is killed at any instant loses nothing, repeats nothing and changes nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from crash.scene import Calm, Instant, Scene, Story

SEED = 20


@pytest.mark.parametrize("number", range(10))
def test_a_killed_run_ends_like_the_calm_one(small: tuple[Scene, Calm], number: int) -> None:
    """After kill -9 at any instant a resume gives every answer once, and the same bytes."""
    scene, calm = small
    instant = scene.instant(random.Random(SEED + number), calm.seconds)
    scene.wipe()
    story = Story(scene, calm)

    story.act(scene.run_words(), kill=instant)

    assert story.finish() == [], instant


@pytest.mark.parametrize("number", range(2))
def test_resumes_that_are_killed_again_and_again(small: tuple[Scene, Calm], half_done: Path, number: int) -> None:
    """Nested kills are no worse than one."""
    scene, calm = small
    chance = random.Random(SEED + number)
    scene.wipe()
    scene.restore(half_done)
    story = Story(scene, calm)

    for _ in range(3):
        left = scene.rows - len(scene.look().answers)
        story.act(scene.resume_words(), kill=scene.instant(chance, calm.seconds, left))

    assert story.finish() == []


def test_durability_process_survives_a_kill(small: tuple[Scene, Calm]) -> None:
    """Without any sync, what was answered is still there after kill -9, in the middle and at the end."""
    scene, calm = small
    for words in (scene.rows, 2 * scene.rows):
        scene.wipe()
        story = Story(scene, calm)

        story.act([*scene.run_words(), "--durability", "process"], kill=Instant(words, 0.0))

        assert story.finish() == []


def test_a_kill_before_the_run_is_published_leaves_no_run(small: tuple[Scene, Calm]) -> None:
    """What dies in preparation is no run; the next command may take its name, and cleans up after it."""
    scene, calm = small
    scene.wipe()
    story = Story(scene, calm)
    (scene.runs / ".x.4194305.new").mkdir(parents=True)  # beyond the largest process number
    (scene.runs / ".x.4194305.new" / "record.db").write_bytes(b"half")
    (scene.folder / ".out.jsonl.4194305.part").write_bytes(b"half")

    assert story.finish() == []

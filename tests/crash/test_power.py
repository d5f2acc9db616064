"""Power loss: what was counted as answered before is there after, and the run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from crash.power import Loss, Recording, survive
from crash.scene import Calm, Scene
from requirements import require

SEED = 7


@pytest.fixture(autouse=True)
def _strace() -> None:
    require("strace")


def test_no_answer_is_counted_before_its_sync_returned(tmp_path: Path) -> None:
    """Each line of progress, and the output, tells of no more answers than a power loss at that moment leaves."""
    scene = Scene(tmp_path / "slow", rows=60, slots=4, delay=0.03)  # long enough for some lines of progress
    recording = Recording.of(scene, scene.run_words(), tmp_path / "tape")
    told = recording.told
    news = [at for at in range(1, len(told)) if told[at] > told[at - 1]]

    left = []
    done = 0
    for at in news:
        recording.advance(done, at)
        done = at + 1
        recording.disk.restore(Loss("nothing", 0))
        left.append((told[at], len(scene.look().answers)))

    assert len(news) >= 3
    assert told[-1] == scene.rows
    assert [pair for pair in left if pair[0] > pair[1]] == []


def test_a_run_survives_power_loss(small: tuple[Scene, Calm], tmp_path: Path) -> None:
    """At moments all over a run, with nothing, some or torn parts of what was pending, the run ends as ever."""
    scene, calm = small
    scene.wipe()
    recording = Recording.of(scene, scene.run_words(), tmp_path / "tape")

    done = 0
    for number, cut in enumerate(recording.cuts(8, SEED)):
        recording.advance(done, cut)
        done = cut + 1
        kind = Loss.KINDS[number % 3]

        assert survive(scene, calm, recording, cut, Loss(kind, SEED + number)).faults == [], (cut, kind)


def test_answers_that_a_kill_left_unsynced_are_synced_before_they_count(
    small: tuple[Scene, Calm], tmp_path: Path
) -> None:
    """A resume that finds all answers written, but not synced, exports none of them before they are."""
    scene, calm = small
    scene.wipe()
    recording = Recording.of(scene, scene.run_words(), tmp_path / "tape")
    last = max(at for at, step in enumerate(recording.tape.steps) if recording.told[at] < scene.rows)
    recording.advance(0, last)
    everything = Loss("everything", 0)
    recording.disk.restore(everything)
    assert len(scene.look().answers) == scene.rows

    resumed = Recording.of(scene, scene.resume_words(), tmp_path / "second", recording.disk)
    at = resumed.told.index(scene.rows)
    resumed.advance(0, at)

    assert survive(scene, calm, resumed, at, Loss("nothing", 0)).faults == []


def test_the_disk_of_the_tape_is_the_real_one(small: tuple[Scene, Calm], tmp_path: Path) -> None:
    """Played to its end and losing nothing, a tape gives back every file that the command left."""
    scene, _ = small
    scene.wipe()
    recording = Recording.of(scene, scene.run_words(), tmp_path / "tape")
    real = contents(scene)
    recording.advance(0, len(recording.tape))

    recording.disk.restore(Loss("everything", 0))

    assert contents(scene) == real


def contents(scene: Scene) -> dict[str, bytes]:
    """Every file that a command left, but the engine's log, which no disk story is about."""
    files = (path for path in scene.folder.rglob("*") if path.is_file() and path != scene.log)
    return {str(path.relative_to(scene.folder)): path.read_bytes() for path in files}

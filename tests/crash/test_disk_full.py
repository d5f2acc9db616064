"""A disk that is full: refused at the start, stopped in the middle, and gone on with once there is space."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crash.scene import Scene, Story
from requirements import require

MEBIBYTE = 1 << 20


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB, where the whole scene is played."""
    require("root")
    require("linux")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this root may not mount: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int) -> Path:
    """Takes all space of a file system but `leave` bytes."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave))
    return ballast


@pytest.mark.parametrize("leave", [0, MEBIBYTE // 2])
def test_full_at_the_start_sends_nothing(tiny_disk: Path, leave: int) -> None:
    """With no space for a run, or none to speak of, the command exits with 2, and no run and no file is left."""
    scene = Scene(tiny_disk / "scene", rows=24, slots=4)
    ballast = fill(tiny_disk, leave)

    ended = scene.play(scene.run_words())

    assert ended.code == 2, ended.err
    assert "free space" in ended.err or "can't be written" in ended.err
    assert scene.heard() == []
    assert not scene.exists
    ballast.unlink()
    calm = scene.calm()
    assert Story(scene, calm).finish() == []


def test_full_during_a_run_keeps_everything(tiny_disk: Path) -> None:
    """A run that outgrows its disk stops with 4 and a way back, keeps its answers, and ends as ever with more space."""
    words = ["--template", "{{ prompt }} " + "word " * 400]
    scene = Scene(tiny_disk / "scene", rows=300, slots=4, delay=0.0, more=words)
    elsewhere = Scene(tiny_disk.parent / "calm", rows=300, slots=4, delay=0.0, more=words)
    story = Story(scene, elsewhere.calm())
    ballast = fill(tiny_disk, 3 * MEBIBYTE // 2)

    ended = story.act(scene.run_words())

    assert ended.code == 4, ended.err
    assert "go on with: tokenmill resume" in ended.err
    assert 0 < len(scene.look().answers) < scene.rows
    ballast.unlink()
    assert story.finish() == []


def test_a_limit_on_file_size_is_a_full_disk(tmp_path: Path) -> None:
    """The same stop, without root: no file may grow beyond a limit that the record needs more than."""
    words = ["--template", "{{ prompt }} " + "word " * 400]
    scene = Scene(tmp_path / "scene", rows=300, slots=4, delay=0.0, more=words)
    story = Story(scene, scene.calm())
    limit = [sys.executable, "-c", LIMITED, str(3 * MEBIBYTE // 2)]

    ended = story.act(scene.run_words(), wrap=limit)

    assert ended.code == 4, ended.err
    assert "go on with: tokenmill resume" in ended.err
    assert 0 < len(scene.look().answers) < scene.rows
    assert story.finish() == []


LIMITED = f"""
import os, resource, sys
limit = int(sys.argv[1])
resource.setrlimit({resource.RLIMIT_FSIZE}, (limit, limit))
os.execv(sys.argv[2], sys.argv[2:])
"""

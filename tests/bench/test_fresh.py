"""The process of a reading: its memory by the kernel, and every way in which it may end without one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench.place import Place
from requirements import require
from tokenmill.bench.cell import Reading

MIB = 1 << 20
#: Takes one reading as a sweep does, in a process that held little before: a peak is handed down to children.
PARENT = """
import sys
from pathlib import Path
import msgspec
from tokenmill.bench.cell import Cell
from tokenmill.bench.fresh import Fresh
sys.executable, source, node = sys.argv[1:]
cell = Cell(group="", factors={"strategy": "pull", "in flight": 2})
options = {"source": source, "node": [node]}
reading = Fresh().read("strategies", options, cell, 3, Path(source).parent)
sys.stdout.buffer.write(msgspec.json.encode(reading))
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def read(place: Place, how: str, python: str = sys.executable) -> Reading:
    line = [sys.executable, "-c", PARENT, python, str(place.source), f"awkward:{how}"]
    done = subprocess.run(line, env=place.environment, capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=Reading)


def timed(place: Place) -> str:
    """A Python whose every process is watched by /usr/bin/time."""
    script = place.folder / "python"
    script.write_text(f'#!/bin/sh\nexec /usr/bin/time -v -o {place.folder}/time {sys.executable} "$@"\n')
    script.chmod(0o700)
    return str(script)


def peak_by_time(place: Place) -> int:
    """Bytes."""
    found = re.search(r"Maximum resident set size \(kbytes\): (\d+)", (place.folder / "time").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_a_reading_is_what_the_run_said(place: Place) -> None:
    """All answered, with times, tokens, digest and processor time; no file of it stays behind."""
    before = {path.name for path in place.folder.iterdir()}
    reading = read(place, "fine")

    assert reading.is_whole, reading.fault
    assert (reading.cell, reading.repeat) == ("strategy=pull in flight=2", 3)
    assert (reading.requests, reading.answered, len(reading.latencies)) == (3, 3, 3)
    assert 0 < reading.seconds <= reading.wall
    assert reading.output_tokens > 0
    assert reading.cpu > 0
    assert reading.digest
    assert {path.name for path in place.folder.iterdir()} == before


def test_the_peak_is_what_time_says_of_the_same_process(place: Place) -> None:
    """Equal but for the pages that the kernel counts per core and adds up late."""
    require("linux")
    require("time")

    reading = read(place, "hold", timed(place))

    assert reading.is_whole, reading.fault
    (peak,) = reading.peak_rss.values()
    assert peak > 300 * MIB
    assert abs(peak - peak_by_time(place)) < MIB


def test_a_killed_process_has_a_peak_and_a_fault(place: Place) -> None:
    """The kernel tells of one that could say nothing itself, to the byte."""
    require("linux")
    require("time")

    reading = read(place, "hold-and-die", timed(place))

    assert reading.peak_rss == {"process": peak_by_time(place)}
    assert not reading.is_whole
    assert "no reading" in reading.fault


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        ("die", "its process ended by signal 9: it said nothing"),
        ("burst", "its process ended with 1 and no reading: out of memory"),
    ],
)
def test_a_process_that_ends_without_a_reading_is_a_fault(place: Place, how: str, fault: str) -> None:
    """How it ended and its last words are told."""
    reading = read(place, how)

    assert reading.fault == fault
    assert (reading.cell, reading.repeat) == ("strategy=pull in flight=2", 3)


def test_chatter_is_kept_from_the_reading(place: Place) -> None:
    """Whatever a library prints on stdout, even what looks like a reading, doesn't get into it."""
    reading = read(place, "chatter")

    assert reading.is_whole, reading.fault
    assert reading.repeat == 3


def test_a_bad_input_is_a_fault_in_words(place: Place) -> None:
    """An error for users is told as such, without a traceback."""
    place.source.unlink()

    assert "no such file" in read(place, "fine").fault

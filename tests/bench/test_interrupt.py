"""A sweep that is stopped, killed, or runs out of disk: what it keeps, what it says, and how it goes on."""

from __future__ import annotations

import os
import pty
import re
import resource
import select
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from bench.place import PATIENCE, Place
from requirements import require
from tokenmill.bench.folder import READINGS
from tokenmill.record.lock import is_alive

#: Kills of one sweep; each comes at a random instant of a command.
KILLS = 20


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@contextmanager
def started(place: Place, *words: str, terminal: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A command while it runs; it is gone when the block ends."""
    stream: int = subprocess.PIPE if terminal is None else terminal
    with subprocess.Popen(
        place.line(*words),
        cwd=place.folder,
        env=place.environment | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL if terminal is None else terminal,
        stdout=stream,
        stderr=subprocess.STDOUT if terminal is None else terminal,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def until_measured(place: Place, process: subprocess.Popen[bytes], count: int) -> None:
    """Waits until so many readings were begun, or the command ended."""
    patience = time.monotonic() + PATIENCE
    while place.log.read_text().count("\n") < count and process.poll() is None and time.monotonic() < patience:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.005)


def resume_line(said: str) -> list[str]:
    """The words of the line that goes on, as a shell reads them."""
    found = re.search(r"[Gg]o on with: tokenmill bench (resume .*)", said.replace("\r", ""))
    assert found, said
    return shlex.split(found[1])


def counted(place: Place) -> Counter[tuple[str, int]]:
    """Lines of the file, not what is made of them."""
    text = (place.sweep.path / READINGS).read_bytes()
    assert text.endswith(b"\n")
    return Counter((each.cell, each.repeat) for each in place.readings()) if text else Counter()


def test_what_is_taken_first_is_thrown_away(place: Place) -> None:
    """A reading is taken before the first that counts, and is kept nowhere."""
    ended = place.begin("--repeats", "1", "--discard", "1", node="fine")

    assert ended.returncode == 0, ended.stderr
    assert place.log.read_text().count("\n") == 3
    assert len(place.readings()) == 2


def test_an_interrupt_keeps_what_was_measured(place: Place) -> None:
    """The code is 4, the reading that ran is lost, and the line that is told takes exactly what is missing."""
    with started(place, *place.words("--repeats", "1", node="linger")) as process:
        until_measured(place, process, 2)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=PATIENCE)[0].decode()
    before = place.readings()
    assert process.returncode == 4, said
    assert len(before) == 1

    ended = place.call(*resume_line(said))

    assert ended.returncode == 0, ended.stderr
    assert place.readings()[:1] == before
    assert set(counted(place).values()) == {1}
    assert len(counted(place)) == 2
    assert place.log.read_text().count("\n") == 3  # the lost reading was begun twice


def test_ctrl_c_on_a_terminal(place: Place) -> None:
    """The key stops a sweep that rewrites its line; the screen ends with the line that goes on."""
    ours, theirs = pty.openpty()
    with started(place, *place.words("--repeats", "1", node="linger"), terminal=theirs) as process:
        os.close(theirs)
        until_measured(place, process, 2)
        process.send_signal(signal.SIGINT)
        shown = bytearray()
        with suppress(OSError):  # the other side is closed
            while block := os.read(ours, 1 << 16):
                shown += block
        assert process.wait(PATIENCE) == 4
    os.close(ours)

    assert len(place.readings()) == 1
    assert place.call(*resume_line(shown.decode())).returncode == 0
    assert len(counted(place)) == 2


def test_a_second_interrupt_takes_nothing_away(place: Place) -> None:
    """Impatience ends the reading by force, and the code is still 4."""
    with started(place, *place.words("--repeats", "1", node="linger")) as process:
        until_measured(place, process, 2)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            process.send_signal(number)
        said = process.communicate(timeout=PATIENCE)[0].decode()

    assert process.returncode == 4, said
    assert "Traceback" not in said
    assert len(place.readings()) == 1


def test_killed_again_and_again_each_reading_is_there_once(place: Place) -> None:
    """A sweep that is killed at random instants leaves nobody who measures on, and resumes to the same end."""
    require("linux")
    random = Random(4)
    kills = 0
    words = place.words("--repeats", "3", node="fine")
    while kills < KILLS:
        with started(place, *words, "-q") as process:
            unit = until_locked(place, process)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.8 * unit * random.random())
            measuring = children_of(process.pid) if process.poll() is None else []
            process.kill()
            process.wait()
            for child in measuring:
                assert is_gone(child), f"{child} measures on"
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:  # nothing was left to do: the last reading is measured again
            path = place.sweep.path / READINGS
            path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
        words = ["resume", "last"]

    ended = place.call("resume", "last")

    assert ended.returncode == 0, ended.stderr
    lines = (place.sweep.path / READINGS).read_bytes().splitlines()
    assert len(lines) == len(place.readings()) == 6
    assert set(counted(place).values()) == {1}
    assert [each.fault for each in place.readings() if each.fault] == []
    assert {path.name for path in place.sweep.path.iterdir()} == {"lock", "manifest.json", READINGS}


def until_locked(place: Place, process: subprocess.Popen[bytes]) -> float:
    """Waits until the command has a sweep for itself; returns the seconds it took, about half of those of a reading."""
    began = time.monotonic()
    while process.poll() is None and time.monotonic() < began + PATIENCE:
        with suppress(FileNotFoundError, ValueError):
            (lock,) = place.sweeps.glob("*/lock")
            if f"process {process.pid}," in lock.read_text():
                break
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.005)
    return time.monotonic() - began


def children_of(pid: int) -> list[int]:
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(each) for each in (task / "children").read_text().split()]
    return found


def is_gone(pid: int) -> bool:
    """Whether the process ends; waits for it as long as it would take to notice."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 5.0)[0]) or not is_alive(pid)
    finally:
        os.close(handle)


def test_a_fault_is_no_end(place: Place) -> None:
    """Processes that die cost their readings alone; the sweep says so with 3, and resume takes them again."""
    ended = place.begin("--repeats", "1", node="die")

    assert ended.returncode == 3, ended.stderr
    assert [each.fault for each in place.readings()] == ["its process ended by signal 9: it said nothing"] * 2
    assert "no cell was answered whole" in ended.stdout
    assert "ended by signal 9" in ended.stdout

    (place.folder / "mended").mkdir()
    again = place.call("resume", "last")

    assert again.returncode == 0, again.stderr
    assert [each.is_whole for each in place.readings()] == [True] * 2


LIMITED = f"""
import os, resource, sys
limit = int(sys.argv[1])
resource.setrlimit({resource.RLIMIT_FSIZE}, (limit, limit))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_full_disk_stops_with_the_way_back(place: Place) -> None:
    """No file may grow beyond a limit: what was measured is kept, the code is 4, and with space it goes on."""
    ended = place.begin("--repeats", "1", wrap=(sys.executable, "-c", LIMITED, "16384"))

    assert ended.returncode == 4, ended.stderr
    assert "Traceback" not in ended.stderr
    kept = place.readings()

    assert place.call(*resume_line(ended.stderr)).returncode == 0
    assert place.readings()[: len(kept)] == kept
    assert [each.is_whole for each in place.readings()] == [True] * 2


def test_a_disk_that_fills_up_keeps_whole_readings(place: Place) -> None:
    """The file of readings reaches the limit in the middle of a line: the ones before it stay."""
    assert place.begin("--repeats", "1").returncode == 0
    path = place.sweep.path / READINGS
    lines = path.read_bytes().splitlines(keepends=True)
    limit = (1 << 20) + len(b"".join(lines[:1])) + 20
    with path.open("r+b") as file:
        first = lines[0].rstrip(b"\n").ljust((1 << 20) + len(lines[0]) - 1)  # spaces, so that runs have room to write
        file.write(first + b"\n")
        file.truncate()

    ended = place.call("resume", "last", wrap=(sys.executable, "-c", LIMITED, str(limit)))

    assert ended.returncode == 4, ended.stderr
    assert "can't be written (File too large); what was measured is kept; free space" in ended.stderr
    assert len(place.readings()) == 1
    assert place.call(*resume_line(ended.stderr)).returncode == 0
    assert len(counted(place)) == 2

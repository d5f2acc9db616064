"""The most memory a process held, against the kernel and against /usr/bin/time."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from requirements import require
from tokenmill.engine.local.supervise import Child
from tokenmill.footprint import Ended
from tokenmill.resources.process import NO_END, peak_of

MIB = 1 << 20
#: A program that holds 300 MiB, gives them back, and says what it takes for its peak.
PROGRAM = """
import mmap
from tokenmill.resources.process import own_peak
held = mmap.mmap(-1, 300 << 20)
for place in range(0, len(held), 4096):
    held[place] = 1
held.close()
print(own_peak(), flush=True)
"""


#: Starts that program as a child and says what is known of its end. A process of its own, because the kernel hands a
#: parent's peak down to its children, and that of a process that has run many tests is above the program's.
PARENT = """
import asyncio, os, sys
from tokenmill.engine.local.supervise import Child
from tokenmill.resources.process import own_peak

async def live(command):
    output = os.open(os.devnull, os.O_WRONLY)
    child = Child(command, env=dict(os.environ), inherited=output, output=output)
    assert await child.exited == 0
    return child.end

end = asyncio.run(live(sys.argv[1:]))
print(end.peak_rss, own_peak(), end.cpu_seconds > 0)
"""


def timed(folder: Path, *command: str) -> list[str]:
    return ["/usr/bin/time", "-v", "-o", str(folder / "time"), *command]


def peak_by_time(folder: Path) -> int:
    """Bytes, from the report of /usr/bin/time."""
    found = re.search(r"Maximum resident set size \(kbytes\): (\d+)", (folder / "time").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_the_own_peak_is_what_time_says_of_the_same_process(tmp_path: Path) -> None:
    """One process measured by both: equal but for the pages that the kernel counts per core and adds up late."""
    require("linux")
    require("time")

    said = subprocess.run(timed(tmp_path, sys.executable, "-c", PROGRAM), capture_output=True, check=True).stdout

    assert int(said) > 300 * MIB
    assert abs(int(said) - peak_by_time(tmp_path)) < MIB


def test_the_peak_of_a_child_is_what_time_says_of_the_same_process(tmp_path: Path) -> None:
    """The kernel hands the peak up from child to parent, so both read the one number, to the byte."""
    require("linux")
    require("time")

    command = timed(tmp_path, sys.executable, "-c", PROGRAM)
    said = subprocess.run([sys.executable, "-c", PARENT, *command], capture_output=True, check=True, text=True).stdout

    peak, parents, worked = said.split()
    assert int(peak) > max(300 * MIB, int(parents))
    assert int(peak) == peak_by_time(tmp_path)
    assert worked == "True"


def test_a_killed_child_has_a_peak() -> None:
    """The kernel tells of one that could say nothing itself."""

    async def live() -> Ended | None:
        output = os.open(os.devnull, os.O_WRONLY)
        code = "import os, signal; held = bytearray(b'1') * (200 << 20); os.kill(os.getpid(), signal.SIGKILL)"
        try:
            child = Child([sys.executable, "-c", code], env=dict(os.environ), inherited=output, output=output)
            assert await child.exited == -9
            return child.end
        finally:
            os.close(output)

    end = asyncio.run(live())

    assert end is not None
    assert end.peak_rss > 200 * MIB


def test_macos_counts_in_bytes() -> None:
    """The same call has another unit there."""
    used = SimpleNamespace(ru_maxrss=5 * 1024, ru_utime=1.0, ru_stime=0.5)

    assert Ended.of(used, "darwin") == Ended(peak_rss=5 * 1024, cpu_seconds=1.5)
    assert Ended.of(used, "linux").peak_rss == 5 * MIB


def process(peak: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=1, end=None if peak is None else Ended(peak_rss=peak, cpu_seconds=1.0))


def test_a_peak_above_the_parents_is_the_childs_own() -> None:
    """No parent can have handed it down."""
    assert peak_of(process(500), seen=400, inherited=300) == (500, "")


def test_a_peak_the_parent_handed_down_says_nothing_of_the_child() -> None:
    """Then the mark that was last read from the child stands, or there is none."""
    assert peak_of(process(300), seen=100, inherited=300) == (100, "")
    assert peak_of(process(300), seen=None, inherited=300)[0] is None


def test_a_process_whose_end_was_not_seen_has_no_peak() -> None:
    """It may have grown since it was looked at."""
    assert peak_of(process(None), seen=100, inherited=50) == (None, NO_END)

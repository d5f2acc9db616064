"""The sampler on this machine, and what it does with processes that come and go."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from requirements import require
from tokenmill.clock import MonotonicClock
from tokenmill.footprint import Ended, Footprint, OwnProcess
from tokenmill.resources import Sampler
from tokenmill.resources.gpu import Gpus
from tokenmill.resources.host import Host
from tokenmill.resources.roster import MOST

NO_GPUS = "none in this test"
#: A process that works until its input ends.
BUSY = "import sys, threading; threading.Thread(target=lambda: (sys.stdin.read(), __import__('os')._exit(0))).start()\n"
BUSY += "while True: pass"


class Child:
    """A real process that an engine might have started."""

    def __init__(self, code: str = BUSY) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
        self.pid = self._process.pid
        self.end: Ended | None = None

    def finish(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        _, status, used = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.end = Ended.of(used)


class Announced:
    """A process by number only."""

    def __init__(self, pid: int, end: Ended | None = None) -> None:
        self.pid = pid
        self.end = end


def once(*found: tuple[str, OwnProcess]) -> Callable[[], Iterable[tuple[str, OwnProcess]]]:
    """Tells of these when it is asked first."""
    waiting = list(found)

    def fresh() -> Iterator[tuple[str, OwnProcess]]:
        while waiting:
            yield waiting.pop(0)

    return fresh


def nobody() -> list[tuple[str, OwnProcess]]:
    return []


def test_a_session_on_this_machine_is_measured() -> None:
    """Driver, worker and machine have processor time, memory and peaks, and what can't be measured has a reason."""
    require("linux")
    child, written = Child(), []
    third = threading.Event()

    def write(footprint: Footprint) -> None:
        written.append(footprint)
        if footprint.samples >= 3:
            third.set()

    sampler = Sampler(
        MonotonicClock(), once(("worker", child)), interval=0.3, gpus=lambda: Gpus(NO_GPUS), elsewhere=("far",)
    )
    sampler.start(write)
    assert third.wait(60)
    child.finish()
    sampler.finish()

    last = written[-1]
    assert [each.is_whole for each in written] == [False] * (len(written) - 1) + [True]
    driver, worker = last.processes
    assert (driver.name, driver.pid, worker.name, worker.pid) == ("driver", os.getpid(), "worker", child.pid)
    assert driver.peak_rss is not None
    assert driver.peak_rss >= max(size for size in driver.rss.maxima if size is not None)
    assert worker.cpu_seconds is not None
    assert worker.cpu_seconds > 0.1
    assert any(percent for percent in worker.cpu.means)
    assert any(percent for percent in last.machine.means)
    assert worker.rss.means[-1] is None, "it was gone at the last look"
    assert len(last.times) == last.samples
    assert (last.no_gpu, last.elsewhere, last.cores) == (NO_GPUS, ("far",), os.cpu_count())
    assert last.spent > 0


def test_a_session_that_is_cut_off_has_what_was_written_before() -> None:
    """Then a peak is not known, but what was read last is."""
    require("linux")
    host = Host(0.0, nobody, Gpus(NO_GPUS))
    host.begin(0.0)
    host.sample(1.0)

    (driver,) = host.footprint(interval=1.0, spent=0.0, is_whole=False, elsewhere=()).processes

    assert (driver.peak_rss, driver.peak_reason) == (None, "the session ended by force")
    assert driver.seen_peak is not None


def test_a_short_session_has_totals_and_no_wild_rates() -> None:
    """Processor time comes in ticks of a hundredth: over a moment it would be nothing or a thousand percent."""
    require("linux")
    host = Host(0.0, nobody, Gpus(NO_GPUS))
    host.begin(0.0)
    host.sample(0.01)

    found = host.footprint(interval=1.0, spent=0.0, is_whole=True, elsewhere=())

    assert found.processes[0].cpu.means == found.machine.means == (None,)
    assert found.processes[0].cpu_seconds is not None
    assert found.processes[0].rss.means[0] is not None


def test_a_system_without_proc_has_reasons(tmp_path: Path) -> None:
    """As on macOS: nothing is 0, and the own peak comes from elsewhere."""
    host = Host(0.0, nobody, Gpus(NO_GPUS), proc=tmp_path / "none", powercap=tmp_path / "none")
    host.begin(0.0)
    host.sample(1.0)

    found = host.footprint(interval=1.0, spent=0.0, is_whole=True, elsewhere=())

    assert found.machine.reason == found.processes[0].cpu.reason == "this system has no /proc to read it from"
    assert found.machine.means == (None,)
    assert found.processes[0].cpu_seconds is None
    assert found.processes[0].peak_rss is not None


def test_a_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    """The tick of its birth tells them apart."""
    folder = tmp_path / "7"
    folder.mkdir()
    stat = "7 (a) S 1 7 7 0 -1 0 0 0 0 0 {} 0 0 0 20 0 9 0 {} 0 0 0"
    (tmp_path / "stat").write_text("cpu 1 1 1 1 1 1 1 1\n")
    (folder / "status").write_text("VmHWM:\t100 kB\nVmRSS:\t100 kB\n")
    (folder / "stat").write_text(stat.format(100, 5))
    host = Host(0.0, once(("worker", Announced(7))), Gpus(NO_GPUS), proc=tmp_path)
    host.begin(0.0)
    host.sample(1.0)
    (folder / "stat").write_text(stat.format(9000, 6))
    (folder / "status").write_text("VmHWM:\t900 kB\nVmRSS:\t900 kB\n")
    host.sample(2.0)

    worker = host.footprint(interval=1.0, spent=0.0, is_whole=True, elsewhere=()).processes[1]

    assert worker.rss.means == (100 * 1024, None)
    assert worker.seen_peak == 100 * 1024


def test_processes_that_die_again_and_again_are_counted() -> None:
    """The list is bounded; what is left out is told."""
    many = [("worker", Announced(2**22 + number, Ended(peak_rss=1, cpu_seconds=1.0))) for number in range(MOST + 5)]
    host = Host(0.0, once(*many), Gpus(NO_GPUS))
    host.begin(0.0)

    found = host.footprint(interval=1.0, spent=0.0, is_whole=True, elsewhere=())

    assert (len(found.processes), found.omitted) == (MOST, 6)

"""Takes one reading in a fresh process, and adds what only its parent sees: processor time and the largest memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from math import inf
from pathlib import Path
from resource import struct_rusage
from tempfile import TemporaryFile
from typing import Any

import msgspec
from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.child import PROCESS, Order
from tokenmill.errors import StorageError
from tokenmill.footprint import Ended
from tokenmill.resources.process import own_peak

#: Seconds that a process has to tidy up when it is stopped.
PATIENCE = 1.0
#: Seconds between two looks at whether it has ended.
TICK = 0.02
#: Characters of a process's complaints that are told, the last ones.
TOLD = 500


class Fresh:
    """One process at a time; `stop` ends it from another thread or a signal handler."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False
        self._force_at = inf

    def read(self, suite: str, options: dict[str, Any], cell: Cell, repeat: int, folder: Path) -> Reading:
        """Has the cell measured once; a process that dies makes a reading with a fault.

        Raises:
            StorageError: the disk is full, or no process can be started.
        """
        began, load, inherited = time.strftime("%Y-%m-%dT%H:%M:%S%z"), _load(), own_peak()
        order = msgspec.json.encode(Order(suite=suite, options=options, cell=cell, folder=str(folder)))
        started = time.monotonic()
        try:
            said, told, status, used = self._play(order + b"\n", folder)
        except OSError as error:
            raise StorageError(
                f"{folder}: no reading can be taken ({error.strerror}); what was measured is kept"
            ) from error
        wall = time.monotonic() - started
        try:
            reading = msgspec.json.decode(said, type=Reading)
        except msgspec.DecodeError:
            reading = Reading(cell=cell.key, repeat=repeat, fault=_fault(status, told))
        if status == StorageError.exit_code:
            raise StorageError(reading.fault)
        end = Ended.of(used)
        peaks = _peaks(reading.peak_rss, end, inherited)
        return replace(reading, repeat=repeat, began=began, load=load, wall=wall, cpu=end.cpu_seconds, peak_rss=peaks)

    def stop(self) -> None:
        """Ends the process that measures now, or the one that is just being started; asked again, by force.

        It has its own group, so what it started ends too. A run would first wait for answers, which nobody needs here.
        """
        number = signal.SIGKILL if self._is_stopped else signal.SIGTERM
        self._is_stopped = True
        self._force_at = min(self._force_at, time.monotonic() + PATIENCE)
        self._end(number)

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None:  # not polled: that would take its end away from `wait4`
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)

    def _play(self, order: bytes, folder: Path) -> tuple[bytes, bytes, int, struct_rusage]:
        """What the process wrote on stdout and stderr, its status, and what it used of the machine."""
        with TemporaryFile(dir=folder) as said, TemporaryFile(dir=folder) as told:
            command = [sys.executable, "-m", "tokenmill.bench.child"]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=told, start_new_session=True)
            self._process = process
            if self._is_stopped:  # while it was being started
                self._end(signal.SIGKILL)
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin as pipe:
                with suppress(BrokenPipeError):
                    pipe.write(order)
                    pipe.flush()
                status, used = self._until_ended(process.pid)
                self._process = None
                process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            told.seek(0)
            return said.read(), told.read(), process.returncode, used

    def _until_ended(self, pid: int) -> tuple[int, struct_rusage]:
        """How the process ended, and what it used.

        Looks again and again rather than wait in the kernel: a signal that another thread takes doesn't end such a
        wait, and its handler would run only afterwards.
        """
        while True:
            ended, status, used = os.wait4(pid, os.WNOHANG)
            if ended:
                return status, used
            if time.monotonic() >= self._force_at:
                self._end(signal.SIGKILL)
            time.sleep(TICK)


def _fault(status: int, told: bytes) -> str:
    """What became of a process that gave no reading."""
    end = f"ended by signal {-status}" if status < 0 else f"ended with {status} and no reading"
    text = told.decode("utf-8", "replace").strip()[-TOLD:]
    return f"its process {end}: {text or 'it said nothing'}"


def _peaks(read: dict[str, int], end: Ended, inherited: int) -> dict[str, int]:
    """Peaks by process. The kernel's last word on the child is exact, but counts in what its parent had held."""
    if end.peak_rss > inherited and set(read) <= {PROCESS}:
        return {PROCESS: end.peak_rss}
    return read


def _load() -> float | None:
    """The machine's load average over the last minute."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None

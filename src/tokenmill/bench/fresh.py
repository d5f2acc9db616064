"""Takes one reading in a fresh process, and adds what only its parent sees: processor time and the largest memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.child import Order

#: Bytes of a process's complaints that are told.
TOLD = 500


class Fresh:
    """One process at a time; `stop` ends it from another thread or a signal handler."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, suite: str, options: dict[str, Any], cell: Cell, repeat: int, folder: Path) -> Reading:
        """Has the cell measured once; a process that dies makes a reading with a fault."""
        began, load = time.strftime("%Y-%m-%dT%H:%M:%S%z"), _load()
        order = msgspec.json.encode(Order(suite=suite, options=options, cell=cell, folder=str(folder)))
        started = time.monotonic()
        said, told, status, used = self._play(order, folder)
        wall = time.monotonic() - started
        try:
            reading = msgspec.json.decode(said, type=Reading)
        except msgspec.DecodeError:
            end = f"ended by signal {-status}" if status < 0 else f"ended with {status}"
            text = told.decode("utf-8", "replace").strip()[-TOLD:]
            reading = Reading(cell=cell.key, repeat=repeat, fault=f"its process {end}: {text or 'it said nothing'}")
        peaks = reading.peak_rss or {"process": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)}
        cpu = used.ru_utime + used.ru_stime
        return replace(reading, repeat=repeat, began=began, load=load, wall=wall, cpu=cpu, peak_rss=peaks)

    def stop(self) -> None:
        """Ends the process that measures now, if there is one; it has its own group, so what it started ends too."""
        process = self._process
        if process is not None and process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGTERM)
            except ProcessLookupError:
                return

    def _play(self, order: bytes, folder: Path) -> tuple[bytes, bytes, int, Any]:
        """What the process wrote on stdout and stderr, its status, and what it used of the machine."""
        paths = folder / "said", folder / "told"
        with paths[0].open("w+b") as said, paths[1].open("w+b") as told:
            command = [sys.executable, "-m", "tokenmill.bench.child"]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=told, start_new_session=True)
            self._process = process
            assert process.stdin is not None
            try:
                with process.stdin as pipe:
                    pipe.write(order)
            except BrokenPipeError:
                pass
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self._process = None
            said.seek(0)
            told.seek(0)
            return said.read(), told.read(), process.returncode, used


def _load() -> float | None:
    """The machine's load average over the last minute."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None

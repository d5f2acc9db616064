"""The process of one reading: `python -m tokenmill.bench.child` takes an order on stdin and answers on stdout.

A fresh process starts cold and owns all the memory it is measured by. What it prints besides the reading goes to
stderr, where the sweep's owner sees it. The pipe of its stdin stays open as long as the sweep lives: when that is
killed, this process ends too, as nothing may be measured beside the sweep that goes on in its place.
"""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.suite import suite_of
from tokenmill.errors import StorageError, TokenmillError
from tokenmill.resources.process import own_peak

#: What this process is called among peaks of memory, where its suite doesn't name it.
PROCESS = "process"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Order(Struct, frozen=True, kw_only=True):
    """What the process is to measure; `options` are the suite's."""

    suite: str
    options: dict[str, Any]
    cell: Cell
    folder: str


def main() -> None:
    """Measures once. Ends with the exit code of `StorageError` if the disk is full: that says nothing of the cell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep's owner decides; it ends this process by SIGTERM
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    _end_with(os.dup(0))
    answer = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not get between
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    suite = suite_of(order.suite)
    options = msgspec.convert(order.options, suite.options)
    code = 0
    try:
        reading = suite.measure(options, order.cell, Path(order.folder))
    except TokenmillError as error:
        reading = Reading(cell=order.cell.key, repeat=0, fault=str(error))
        code = StorageError.exit_code if _is_full(error) else 0
    if not reading.peak_rss:
        reading = replace(reading, peak_rss={PROCESS: own_peak()})
    with os.fdopen(answer, "wb") as file:
        file.write(msgspec.json.encode(reading))
    sys.exit(code)


def _is_full(error: BaseException | None) -> bool:
    """Whether it comes from a disk that takes no more, which is refused as bad usage when a run has not begun."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return isinstance(error, StorageError | sqlite3.OperationalError) or _is_full(error.__cause__)


def _end_with(pipe: int) -> None:
    """Ends this process, and what it started in its group, when the other side of the pipe is closed."""

    def wait() -> None:
        while os.read(pipe, 1):
            pass
        os.killpg(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main()

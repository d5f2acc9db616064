"""The process of one reading: `python -m tokenmill.bench.child` takes a request on stdin and answers on stdout.

A fresh process starts cold and owns all the memory it is measured by. What it prints besides the reading goes to
stderr, where the sweep's owner sees it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.suite import suite_of
from tokenmill.errors import TokenmillError


class Order(Struct, frozen=True, kw_only=True):
    """What the process is to measure; `options` are the suite's."""

    suite: str
    options: dict[str, Any]
    cell: Cell
    folder: str


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep's owner decides; it ends this process by SIGTERM
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    answer = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not get between
    suite = suite_of(order.suite)
    options = msgspec.convert(order.options, suite.options)
    try:
        reading = suite.measure(options, order.cell, Path(order.folder))
    except TokenmillError as error:
        reading = Reading(cell=order.cell.key, repeat=0, fault=str(error))
    with os.fdopen(answer, "wb") as file:
        file.write(msgspec.json.encode(reading))


if __name__ == "__main__":
    main()

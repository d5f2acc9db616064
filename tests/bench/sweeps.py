"""Sweeps whose readings are written by hand, to write reports of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.folder import SweepFolder
from tokenmill.bench.strategies import SUITE, StrategiesOptions
from tokenmill.bench.sweep import Results, results_of

#: What a repeat takes beyond the usual, in seconds.
JITTER = (0.0, 0.05, -0.04, 0.02, -0.03)


def planted(folder: Path, *, targets: tuple[str, ...] = (), faults: Iterable[str] = (), **options: str) -> SweepFolder:
    """A sweep of five repeats: one slot gains nothing, four slots gain up to four, a reading of a cell may be a fault.

    `faults` are what went wrong in the last repeat of the cells, in their order.
    """
    chosen = StrategiesOptions(
        **{"engine": "scripted", "strategies": "sequential,static,pull", "widths": "1,2,4,8,12,16", "slots": "1,4"}
        | options
    )
    made = SweepFolder.create(
        folder, "strategies", msgspec.to_builtins(chosen), repeats=len(JITTER), seed=3, targets=targets
    )
    said = list(faults)
    for number, cell in enumerate(SUITE.cells(chosen)):
        for repeat, more in enumerate(JITTER):
            is_last = repeat == len(JITTER) - 1
            made.add(_reading(cell, repeat, more, said[number] if is_last and number < len(said) else ""))
    return made


def _reading(cell: Cell, repeat: int, more: float, fault: str) -> Reading:
    if fault:
        return Reading(cell=cell.key, repeat=repeat, began="2026-01-01T00:00:00+0000", fault=fault)
    slots = int(cell.group.split()[0])
    lost = 0.2 if cell.factors["strategy"] == "static" else 0.0
    seconds = 8.0 / min(slots, cell.workers) + lost * (cell.workers > 1) + more
    return Reading(
        cell=cell.key,
        repeat=repeat,
        began="2026-01-01T00:00:00+0000",
        load=0.5,
        wall=seconds + 1,
        seconds=seconds,
        requests=8,
        answered=8,
        output_tokens=800,
        digest="d",
        latencies=tuple(seconds / 8 + each / 1000 for each in range(8)),
        ttft=(0.01,) * 8,
        peak_rss={"process": 30_000_000 + 100_000 * int(cell.workers)},
        missing={"energy": "no counter is there"},
    )


def shown(folder: Path, **more: object) -> Results:
    """Its results."""
    return results_of(planted(folder, **more))  # type: ignore[arg-type]

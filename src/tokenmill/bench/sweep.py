"""The loop: what is left of a sweep, one reading after the other, until all are there or somebody stops it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.folder import Plan, SweepFolder
from tokenmill.bench.fresh import Fresh
from tokenmill.bench.order import left
from tokenmill.bench.suite import Judges, suite_of
from tokenmill.bench.table import Law, Row, laws_of, rows_of, speedups_of
from tokenmill.errors import StorageError
from tokenmill.record.lock import RunLock
from tokenmill.stats.interval import Interval


class Step(Struct, frozen=True, kw_only=True):
    """How far a sweep is before its next reading. `eta`: seconds until the end, None before the first was timed.

    `spread`: the widest interval of a speedup so far, as a share of it; None while there is none.
    """

    done: int
    total: int
    cell: Cell
    repeat: int
    eta: float | None
    spread: float | None


class Results(Struct, frozen=True, kw_only=True):
    """A sweep as far as it was measured."""

    plan: Plan
    unit: str
    complete: bool
    readings: tuple[Reading, ...]
    rows: tuple[Row, ...]
    laws: tuple[Law, ...]
    findings: tuple[str, ...]


def carry_on(folder: SweepFolder, watch: Callable[[Step], None]) -> bool:
    """Takes the readings that are missing or have a fault; True when each was taken, False after Ctrl-C.

    The reading that is interrupted is lost, the others are kept.

    Raises:
        UsageError: the folder is no sweep, or another process works on it.
        StorageError: the disk is full; what was measured is kept.
    """
    plan = folder.plan
    suite = suite_of(plan.suite)
    options = msgspec.convert(plan.options, suite.options)
    cells = suite.cells(options)
    lock = RunLock(folder.path)
    try:
        try:
            suite.prepare(options, folder.path)
        except OSError as error:
            raise StorageError(f"{folder.path}: can't be written ({error.strerror})") from error
        fresh, stopping = Fresh(), _Stopping()
        with stopping.on_signals(fresh.stop):
            return _take(folder, plan, cells, fresh, stopping, watch)
    finally:
        lock.release()


def _take(
    folder: SweepFolder,
    plan: Plan,
    cells: list[Cell],
    fresh: Fresh,
    stopping: _Stopping,
    watch: Callable[[Step], None],
) -> bool:
    readings = folder.readings()
    todo = left(cells, plan.repeats, plan.seed, {(each.cell, each.repeat) for each in readings if not each.fault})
    total, spent = len(cells) * plan.repeats, 0.0
    for cell, repeat in todo[:1] * plan.discard:  # what is done only once, as filling caches, counts nowhere
        watch(Step(done=total - len(todo), total=total, cell=cell, repeat=repeat, eta=None, spread=None))
        if not stopping.asked:
            fresh.read(plan.suite, plan.options, cell, repeat, folder.path)
    for number, (cell, repeat) in enumerate(todo):
        eta = spent / number * (len(todo) - number) if number else None
        spread = _spread(speedups_of(cells, readings))
        watch(Step(done=total - len(todo) + number, total=total, cell=cell, repeat=repeat, eta=eta, spread=spread))
        if stopping.asked:
            return False
        began = time.monotonic()
        reading = fresh.read(plan.suite, plan.options, cell, repeat, folder.path)
        if stopping.asked:
            return False
        spent += time.monotonic() - began
        folder.add(reading)
        readings.append(reading)
    return True


def _spread(speedups: list[Interval]) -> float | None:
    """The widest of them, as a share of its value."""
    found = [
        (each.high - each.low) / each.value
        for each in speedups
        if each.value and each.low is not None and each.high is not None
    ]
    return max(found, default=None)


def results_of(folder: SweepFolder) -> Results:
    """What a sweep has come to so far."""
    plan = folder.plan
    suite = suite_of(plan.suite)
    options: Any = msgspec.convert(plan.options, suite.options)
    cells, readings = suite.cells(options), folder.readings()
    is_complete = not left(cells, plan.repeats, plan.seed, {(each.cell, each.repeat) for each in readings})
    if isinstance(suite, Judges):
        cells, readings = suite.judged(options, cells, readings)
    rows = rows_of(cells, readings, suite.unit)
    return Results(
        plan=plan,
        unit=suite.unit,
        complete=is_complete,
        readings=tuple(readings),
        rows=tuple(rows),
        laws=tuple(laws_of(rows, readings, suite.varied)),
        findings=tuple(suite.findings(options, rows)),
    )


class _Stopping:
    """Whether an interrupt came."""

    def __init__(self) -> None:
        self.asked = False

    @contextlib.contextmanager
    def on_signals(self, stop: Callable[[], None]) -> Iterator[None]:
        """Where this thread may: only the main thread receives signals."""

        def heard(*_: object) -> None:
            self.asked = True
            stop()

        try:
            before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

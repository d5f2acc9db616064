"""An event loop whose time is a number, and a run with a recipe that is driven on it.

Driver, writer, judging thread and engine are the real ones. Time goes on only when nothing is left to be done at this
moment: no callback is due, no thread works for the loop, and the record holds all that it was given. Then it is set to
the next timer. A thread that has to take time says so with `pause` and waits for a timer of the loop.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tokenmill.driver.api import chosen_options
from tokenmill.driver.data_set import write_data_set
from tokenmill.driver.driver import Driver
from tokenmill.driver.meaning import certificate_of
from tokenmill.driver.options import Options, make_strategy
from tokenmill.driver.prepare import RECORD, located, prepare
from tokenmill.driver.sequel import Sequel
from tokenmill.driver.source import RowSource
from tokenmill.driver.station import Station
from tokenmill.driver.stations import Reach
from tokenmill.driver.survey import survey
from tokenmill.event import Arrived
from tokenmill.pipeline import Recipe
from tokenmill.record.folder import Manifest, read_manifest
from tokenmill.record.store import Record
from tokenmill.record.writer import Writer
from tokenmill.workload import Reader

#: Real seconds after which a loop that waits for a thread looks again, and those after which it is stuck.
LOOK, STUCK = 1.0, 60


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that is always at the time of what happens next."""

    def __init__(self) -> None:
        self.now = 0.0
        self.is_settled: Callable[[], bool] = lambda: True
        self._at_work = 0
        self._thread = threading.current_thread()
        super().__init__(_Leap(self))

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """As ever; until its end is known here, or it pauses, the thread may do something at this very moment."""
        self._at_work += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(lambda _: self._count(-1))
        return future

    def pause(self, seconds: float) -> None:
        """Called in a thread: returns as many seconds later. On the loop's own it holds up everything meanwhile."""
        if threading.current_thread() is self._thread:
            self.now += seconds
            return
        over = threading.Event()

        def begin() -> None:
            self._count(-1)
            self.call_later(seconds, end)

        def end() -> None:
            self._count(+1)
            over.set()

        self.call_soon_threadsafe(begin)
        over.wait()

    @property
    def may_leap(self) -> bool:
        return self._at_work == 0 and self.is_settled()

    def _count(self, more: int) -> None:
        self._at_work += more


class _Leap(selectors.DefaultSelector):
    """Waits for threads in real time, and for timers not at all."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        for _ in range(STUCK):
            if timeout is not None and self._loop.may_leap:
                found = super().select(0)
                self._loop.now += 0 if found else timeout
                return found
            found = super().select(LOOK)
            if found:
                return found
        raise AssertionError(f"nothing happens any more at {self._loop.now} s")


class Clock:
    """The time of a loop as a run's clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return self._loop.now


#: Makes what goes on with stories, from the record's path, the input and the run's clock.
MakeSequel = Callable[[Path, Reader, Clock], Sequel]


class Run:
    """A run with a recipe on the scripted engine, prepared as ever and played in virtual time."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]], node: str, recipe: Recipe, **given: Any) -> None:
        options, self._settings = chosen_options(rows, None, [node], {}, {"durability": "process", **given})
        self._options: Options = replace(options, pipeline=recipe)
        self.folder = prepare(self._options, self._settings, runs=folder, run_id=None, output=None, rows=rows)
        self.manifest: Manifest = read_manifest(self.folder)
        self.loop = VirtualLoop()

    def play(self, make_sequel: MakeSequel | None = None) -> dict[str, Any]:
        """Runs to the end, and returns the card. `make_sequel` makes another sequel than that of the run."""
        clock = Clock(self.loop)
        record = Record(self.folder / RECORD)
        try:
            found = located(self.manifest.input, self.folder)
            with Reader(self._options.asked, found) as reader:
                source = RowSource(record, reader, self._options)
                if make_sequel is None:
                    sequel = source.sequel(self._settings, clock, 0)
                else:
                    sequel = make_sequel(record.path, reader, clock)
                with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
                    runner.run(self._drive(record, source, sequel, clock))
            certificate = certificate_of(record, self.folder.parent, self._settings)
            write_data_set(record, self.manifest, self._options, found, self.folder / "data.jsonl", certificate)
        finally:
            record.close()
        card: dict[str, Any] = json.loads((self.folder / "data.card.json").read_text(encoding="utf-8"))
        return card

    async def _drive(self, record: Record, source: RowSource, sequel: Sequel | None, clock: Clock) -> None:
        settings = self._settings
        nodes = survey(self._options, settings).nodes
        unfinished = record.counts().unfinished
        strategy, fleet = make_strategy(settings, unfinished, 0, names=[each.node.name for each in nodes])
        driver = Driver(
            strategy=strategy,
            fleet=fleet,
            stations=[Station(index, each.node, each.engine) for index, each in enumerate(nodes)],
            source=source,
            clock=clock,
            acceptance=self._options.acceptance,
            rows=iter([Arrived(0.0, row, length, group) for row, length, group in record.unfinished()]),
            unfinished=unfinished,
            leases={},
            next_attempt=0,
            session=0,
            digest=self.manifest.model_digest,
            reach=Reach(interval=1.0, tries=1),
            grace=1.0,
            sequel=sequel,
        )
        await driver.run(self._open_writer)

    def _open_writer(self, driver: Driver) -> Writer:
        writer = _Settling(self.folder / RECORD, driver, self.loop)
        writer.put(("session", (0, "2026-01-01T00:00:00+0000", 0)))
        self.loop.is_settled = writer.is_settled
        return writer


class _Settling(Writer):
    """The run's writer, which knows whether the driver has heard of all that it was given."""

    def __init__(self, path: Path, driver: Driver, loop: VirtualLoop) -> None:
        self._heard = self._given = 0

        def written(number: int) -> None:
            self._heard = max(self._heard, number)
            driver.on_written(number)

        super().__init__(
            path,
            durability="process",
            on_written=partial(loop.call_soon_threadsafe, written),
            on_committed=partial(loop.call_soon_threadsafe, driver.on_committed),
            on_error=partial(loop.call_soon_threadsafe, driver.on_storage_error),
        )

    def is_settled(self) -> bool:
        return self._heard >= self._given

    def put(self, *entries: Any) -> int:
        self._given = super().put(*entries)
        return self._given

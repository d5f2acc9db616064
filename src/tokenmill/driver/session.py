"""One start of a run: open its folder, drive it to its end or to a stop, and write down what it means."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tokenmill.clock import Clock, MonotonicClock
from tokenmill.driver.driver import Driver
from tokenmill.driver.launching import WHOLE, crew_of
from tokenmill.driver.loop import run_in_loop
from tokenmill.driver.meaning import certificate_of
from tokenmill.driver.metering import Metering
from tokenmill.driver.options import Options, Settings, is_served, make_strategy
from tokenmill.driver.prepare import RECORD, check_model, located, with_endpoint
from tokenmill.driver.progress import Progress
from tokenmill.driver.sharing import Sharing
from tokenmill.driver.source import Follow, RowSource
from tokenmill.driver.station import Station
from tokenmill.driver.stations import Reach
from tokenmill.driver.survey import engines_of, survey
from tokenmill.errors import StorageError, TokenmillError
from tokenmill.event import Arrived
from tokenmill.launch.crew import Crew
from tokenmill.record import folder as folders
from tokenmill.record.export import export
from tokenmill.record.folder import Manifest
from tokenmill.record.lock import RunLock
from tokenmill.record.store import Counts, Record
from tokenmill.record.writer import Writer
from tokenmill.report.certificate import Certificate
from tokenmill.schedule.budget import Spent
from tokenmill.schedule.fleet import Fleet
from tokenmill.workload import Input, Reader, check_unchanged

#: Seconds between two looks of a watcher.
WATCH_EVERY = 0.1
INTERRUPTED = 4


class Watcher(Protocol):
    """Shows how far a run is; called on the run's event loop, so it must be quick."""

    def watch(self, progress: Progress, now: float) -> None: ...

    def leave(self) -> None:
        """A second interrupt ends the process right after this call; puts the screen back."""
        ...


class Outcome(Struct, kw_only=True):
    """How a session ended. `certificate` is None when nothing was ever sent. `notes`: what happened to nodes.

    `stories`: with a recipe, input rows by how their stories ended. `is_open`: something is left to be asked or judged.
    """

    folder: Path
    manifest: Manifest
    counts: Counts
    stories: dict[str, int] = {}
    is_open: bool = False
    certificate: Certificate | None
    output: Path | None
    stopped_by: str | None
    notes: list[str] = []

    @property
    def exit_code(self) -> int:
        """0 all answered, 3 some failed, 4 interrupted and resumable."""
        if self.is_open or self.counts.unfinished:
            return INTERRUPTED
        failed = self.stories.get("failed") if self.manifest.options.get("pipeline") else self.counts.failed
        return 3 if failed else 0


def options_of(manifest: Manifest) -> Options:
    """The options of a run, with the endpoint that its rows settled."""
    return with_endpoint(msgspec.convert(manifest.options, Options), manifest.input)


def settings_of(manifest: Manifest) -> Settings:
    return msgspec.convert(manifest.settings, Settings)


def execute(
    folder: Path,
    *,
    settings: Settings | None = None,
    watcher: Watcher | None = None,
    follow: Follow | None = None,
    on_start: Callable[[Driver, asyncio.AbstractEventLoop], None] | None = None,
    surveyed: bool = False,
) -> Outcome:
    """Runs a prepared or interrupted run; also correct for a finished one, which is only exported again.

    `on_start` is told the driver and its loop, for callers that stop it from another thread. `surveyed`: these nodes
    were asked a moment ago, when the run was prepared, and aren't asked again before they are opened.

    Raises:
        UsageError: input or model changed, or another process works on the run; nothing was sent.
        StorageError, NodeGone: the run can't go on; what was committed is kept.
    """
    lock = RunLock(folder)
    try:
        manifest = folders.read_manifest(folder)
        settings = settings or settings_of(manifest)
        record = Record(folder / RECORD)
        try:
            found = ready(folder, manifest, settings, surveyed=surveyed)
            return _execute(folder, manifest, record, settings, found, watcher, follow, on_start)
        finally:
            record.close()
    except sqlite3.Error as error:
        raise StorageError(f"{folder / RECORD}: can't go on ({error}); what was committed is kept") from error
    finally:
        lock.release()


def _execute(
    folder: Path,
    manifest: Manifest,
    record: Record,
    settings: Settings,
    found: Input,
    watcher: Watcher | None,
    follow: Follow | None,
    on_start: Callable[[Driver, asyncio.AbstractEventLoop], None] | None,
) -> Outcome:
    options = options_of(manifest)
    record.recover()
    stopped_by: str | None = None
    notes: list[str] = []
    if record.counts().unfinished or (options.pipeline is not None and record.has_unjudged()):
        with Reader(options.asked, found) as reader:
            source = RowSource(record, reader, options, follow)
            try:
                crew = crew_of(settings, folder)
                stations = _stations(pinned(options, manifest, settings), settings, source, crew)
                nodes = [each.node for each in stations]
                sharing = Sharing(nodes, settings, manifest.model_digest, folder.parent)
                drive = _drive(record, manifest, settings, stations, sharing, source, crew, watcher, on_start)
                stopped_by, notes = run_in_loop(drive, sockets=any(map(is_served, settings.nodes)))
            except TokenmillError as error:
                nothing_left = not record.counts().unfinished  # written, but not known to be committed
                if nothing_left or not record.has_attempts():  # nothing was sent: the error itself is the outcome
                    raise
                stopped_by = str(error)
    counts = record.counts()
    certificate = certificate_of(record, folder.parent, settings) if record.sessions() else None
    is_open = counts.unfinished > 0 or (options.pipeline is not None and record.has_unjudged())
    output = None if is_open else _export(record, manifest, folder, settings, certificate)
    return Outcome(
        folder=folder,
        manifest=manifest,
        counts=counts,
        stories=record.stories() if options.pipeline is not None else {},
        is_open=is_open,
        certificate=certificate,
        output=output,
        stopped_by=stopped_by,
        notes=notes,
    )


def ready(folder: Path, manifest: Manifest, settings: Settings, *, surveyed: bool = False) -> Input:
    """The input of a session; raises `UsageError` if settings can't work, or input or model changed."""
    if not surveyed:
        check_model(manifest, survey(pinned(options_of(manifest), manifest, settings), settings).first[1])
    if (options := options_of(manifest)).pipeline is not None:
        from tokenmill.driver.vectors import check_embedding

        check_embedding(manifest, options, settings)
    found = located(manifest.input, folder)
    for state in (found.source, found.data):
        if state is not None:
            check_unchanged(state)
    return found


def pinned(options: Options, manifest: Manifest, settings: Settings) -> Options:
    """With workers elsewhere the number format is the one the run began with, whatever suits the driver's host now."""
    if settings.on is None or options.dtype is not None:
        return options
    return replace(options, dtype=manifest.model_digest.rpartition("-")[2])


def _stations(options: Options, settings: Settings, source: RowSource, crew: Crew | None) -> list[Station]:
    longest = source.longest() if settings.canary != "no" and any(map(is_served, settings.nodes)) else 0
    return [Station(index, *each) for index, each in enumerate(engines_of(options, settings, longest, crew))]


def _export(
    record: Record, manifest: Manifest, folder: Path, settings: Settings, certificate: Certificate | None
) -> Path:
    options = options_of(manifest)
    if options.pipeline is not None:
        from tokenmill.driver.data_set import write_data_set

        output = Path(manifest.output) if manifest.output else folder / "data.jsonl"
        write_data_set(record, manifest, options, located(manifest.input, folder), output, certificate)
        return output
    output = Path(manifest.output) if manifest.output else folder / "answers.jsonl"
    export(record, manifest, output, with_timings=settings.with_timings)
    return output


def _arrivals(record: Record, clock: Clock) -> Iterator[Arrived]:
    now = clock.now()
    for row, length, group in record.unfinished():
        yield Arrived(now, row, length, group)


def _driver(
    record: Record,
    manifest: Manifest,
    settings: Settings,
    stations: list[Station],
    sharing: Sharing,
    source: RowSource,
    clock: Clock,
    wholes: list[int],
) -> tuple[Driver, Fleet]:
    """A driver of what is left to answer, and the part of its strategy that knows the nodes."""
    unfinished = record.counts().unfinished
    _, next_attempt, session = record.next_numbers()
    strategy, fleet = make_strategy(
        settings,
        unfinished,
        manifest.seed,
        names=[station.node.name for station in stations],
        groups=sharing.numbers,
        known=sharing.known,
        wholes=wholes,
        spent=Spent(*record.tokens()),
    )
    driver = Driver(
        strategy=strategy,
        fleet=fleet,
        stations=stations,
        source=source,
        clock=clock,
        acceptance=options_of(manifest).acceptance,
        rows=_arrivals(record, clock),
        unfinished=unfinished,
        leases=record.leases(),
        next_attempt=next_attempt,
        session=session,
        digest=manifest.model_digest,
        reach=Reach(interval=settings.health_interval, tries=settings.remove_after),
        grace=settings.grace,
        sequel=source.sequel(settings, clock, session),
    )
    return driver, fleet


async def _drive(
    record: Record,
    manifest: Manifest,
    settings: Settings,
    stations: list[Station],
    sharing: Sharing,
    source: RowSource,
    crew: Crew | None,
    watcher: Watcher | None,
    on_start: Callable[[Driver, asyncio.AbstractEventLoop], None] | None,
) -> tuple[str | None, list[str]]:
    """Runs the driver; returns why it stopped early, if it did, and what happened to nodes."""
    loop = asyncio.get_running_loop()
    clock = MonotonicClock()
    session = record.next_numbers()[2]
    wholes = [each.index for each in stations if crew is not None and each.node.name == WHOLE]
    driver, fleet = _driver(record, manifest, settings, stations, sharing, source, clock, wholes)
    interrupts: list[int] = []

    def on_signal(number: int) -> None:
        interrupts.append(number)
        if len(interrupts) > 1:
            if watcher is not None:
                watcher.leave()
            os._exit(INTERRUPTED)
        driver.stop(settings.grace)

    with _signals(loop, on_signal):
        watching = loop.create_task(_watch(watcher, driver.progress, clock)) if watcher is not None else None
        if on_start is not None:
            on_start(driver, loop)
        try:
            metering = Metering(stations, clock, session, crew)
            await _staffed(driver, crew, lambda driver: _open_writer(record, settings, driver, loop, metering, crew))
        finally:
            if watching is not None:
                watching.cancel()
            driver.progress.notes += sharing.close(fleet, manifest.versions | _versions(stations))
            if watcher is not None:
                watcher.watch(driver.progress, clock.now())
    return _reason(interrupts, driver), driver.progress.notes


async def _staffed(driver: Driver, crew: Crew | None, open_writer: Callable[[Driver], Writer]) -> None:
    """Runs the driver while the crew, if there is one, makes workers appear; it leaves nothing behind."""
    if crew is None:
        await driver.run(open_writer)
        return
    await crew.start(driver.progress.notes.append)
    try:
        await driver.run(open_writer)
    finally:
        await crew.stop()


def _reason(interrupts: list[int], driver: Driver) -> str | None:
    """Why the driver stopped early, if it did."""
    return f"interrupted by {signal.Signals(interrupts[0]).name}" if interrupts else driver.stop_reason


def _versions(stations: list[Station]) -> dict[str, str]:
    """What the servers call their version, by node."""
    return {each.node.name: each.facts.version for each in stations if each.facts is not None and each.facts.version}


def _open_writer(
    record: Record,
    settings: Settings,
    driver: Driver,
    loop: asyncio.AbstractEventLoop,
    metering: Metering,
    crew: Crew | None,
) -> Writer:
    """The run's writer, which tells the driver through its loop; the first entry says that a session begins."""
    writer = Writer(
        record.path,
        durability=settings.durability,
        on_written=_relay(loop, driver.on_written),
        on_committed=_relay(loop, driver.on_committed),
        on_error=lambda error: _call(loop, driver.on_storage_error, error),
        before_close=lambda: _finish(metering, crew, loop),
    )
    writer.put(("session", (metering.session, time.strftime("%Y-%m-%dT%H:%M:%S%z"), os.getpid())))
    metering.start(writer)
    return writer


def _finish(metering: Metering, crew: Crew | None, loop: asyncio.AbstractEventLoop) -> None:
    """In the thread that closes the writer. What may have gone wrong with the crew is said when it is stopped."""
    if crew is not None:
        futures.wait([asyncio.run_coroutine_threadsafe(crew.dismiss(), loop)])
    metering.finish()


async def _watch(watcher: Watcher, progress: Progress, clock: Clock) -> None:
    while True:
        watcher.watch(progress, clock.now())
        await asyncio.sleep(WATCH_EVERY)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], argument: object) -> None:
    """Calls into the loop from a thread; a loop that has ended needs no more news."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, argument)


def _relay(loop: asyncio.AbstractEventLoop, function: Callable[[int], None]) -> Callable[[int], None]:
    return lambda number: _call(loop, function, number)


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, handler: Callable[[int], None]) -> Iterator[None]:
    """Sends interrupts to `handler`, where this thread may: only the main thread receives signals."""
    chosen = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in chosen:
            loop.add_signal_handler(number, handler, number)
    except (ValueError, RuntimeError):
        yield
        return
    try:
        yield
    finally:
        for number in chosen:
            loop.remove_signal_handler(number)

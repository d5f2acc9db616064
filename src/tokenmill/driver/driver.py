"""The shell around a strategy: events in, actions out, every event recorded before it is acted on.

The driver owns the clock, the attempts in flight and their leases. It decides nothing about placement. A dispatch
waits until the writer says that it is in the log; only then does the engine see the request. An answer counts once
it is committed. Everything here runs on one event loop; the writer's threads reach it through `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Protocol

from tokenmill.clock import Clock
from tokenmill.driver.acceptance import Acceptance, accept
from tokenmill.driver.attempt import NOTHING, Meter, attempt, used_by
from tokenmill.driver.flights import Flights, InFlight
from tokenmill.driver.progress import Progress
from tokenmill.driver.sequel import NoSequel, Sequel
from tokenmill.driver.station import Station
from tokenmill.driver.stations import Reach, Stations
from tokenmill.errors import EngineError, StorageError
from tokenmill.event import (
    ENDS,
    PROGRESS,
    Action,
    Answer,
    Arrived,
    Cancel,
    Cancelled,
    Dispatch,
    Event,
    Failed,
    Finished,
    FirstToken,
    NodeLost,
    NodeUp,
    Paced,
    Probe,
    SetAside,
    Stop,
    WakeAt,
    Woke,
)
from tokenmill.record.book import Book
from tokenmill.record.stories import Entry
from tokenmill.record.writer import Parameters
from tokenmill.request import Request
from tokenmill.schedule import Strategy
from tokenmill.schedule.fleet import Fleet

Ended = Finished | Failed | Cancelled
OF_ATTEMPTS = PROGRESS + ENDS
Birth = tuple[Arrived, tuple[str, Parameters]]


class Source(Protocol):
    """Where the driver gets the text of a row, and what an answer gives rise to."""

    def fetch(self, row: int) -> Request: ...

    def follow(self, row: int, answer: Answer, now: float) -> Iterable[Birth]:
        """Rows born of this answer, each with its entry for the record; usually none."""
        ...


class Driver:
    """Runs until every row has a final word, or until it is told to stop; `open_ended`: only when it is told."""

    def __init__(
        self,
        *,
        strategy: Strategy,
        fleet: Fleet,
        stations: list[Station],
        source: Source,
        clock: Clock,
        acceptance: Acceptance,
        rows: Iterator[Arrived],
        unfinished: int,
        leases: dict[int, int],
        next_attempt: int,
        session: int,
        digest: str,
        reach: Reach,
        grace: float,
        open_ended: bool = False,
        sequel: Sequel | None = None,
    ) -> None:
        self._strategy = strategy
        self._fleet = fleet
        self._source = source
        self._clock = clock
        self._acceptance = acceptance
        self._rows = rows
        self._unfinished = unfinished
        self._leases = leases
        self._next_attempt = next_attempt
        self._session = session
        self._inbox: deque[Event] = deque()
        self._signal = asyncio.Event()
        self._flights = Flights()
        self._unsent: deque[tuple[int, InFlight]] = deque()
        self._uncounted: deque[tuple[int, int]] = deque()
        self._ends: deque[tuple[int, int]] = deque()
        self._losers: deque[tuple[int, InFlight]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._grace: asyncio.TimerHandle | None = None
        self._stopping = False
        self._open_ended = open_ended
        self._sequel = sequel or NoSequel()
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._grace_seconds = grace
        self.stop_reason: str | None = None
        self.progress = Progress(rows=unfinished)
        self._stations = Stations(
            stations,
            clock,
            session,
            digest,
            reach=reach,
            emit=self._emit,
            fail=self._fail,
            spawn=self._spawn,
            note=self.progress.notes.append,
        )
        self._writer: Book

    async def run(self, open_writer: Callable[[Driver], Book]) -> None:
        """Answers all rows. Returns early, with rows unfinished, after `stop`.

        Raises:
            StorageError: the record can't be written; what was committed is kept.
            TokenmillError: a node could not be opened, or died too often.
        """
        self._writer = open_writer(self)
        try:
            self._stations.open_all(self._writer)
            self._sequel.begin(self._grow, self._spawn)
            for event in self._rows:
                self._tell(event)
            await self._until_done()
        finally:
            await self._end()
        if self._error is not None:
            raise self._error

    def join(self, rows: Iterable[Arrived]) -> None:
        """Rows that come while the run goes on."""
        for arrived in rows:
            self._unfinished += 1
            self.progress.rows += 1
            self._emit(arrived)

    def stop(self, grace: float) -> None:
        """Sends nothing more; what is in flight has `grace` seconds to arrive."""
        if self._stopping:
            return
        self._stopping = self.progress.stopping = True
        while self._unsent:
            _, flight = self._unsent.popleft()
            self._emit(Cancelled(self._clock.now(), flight.row, flight.node, flight.lease, NOTHING))
        self._grace = self._loop.call_later(grace, self._cancel_all)
        self._signal.set()

    # -- the writer's threads call these through the loop ------------------------------------------------------

    def on_written(self, number: int) -> None:
        """Sends the dispatches whose entry is in the log now."""
        while self._unsent and self._unsent[0][0] <= number:
            _, flight = self._unsent.popleft()
            station = self._stations[flight.node]
            if flight.is_void or not station.is_up:
                self._emit(Cancelled(self._clock.now(), flight.row, flight.node, flight.lease, NOTHING))
                continue
            flight.task = self._spawn(self._attempt(station, flight))
        self._sequel.written(number)

    def on_committed(self, number: int) -> None:
        """Counts the answers that survive power loss now, and ends what they made superfluous."""
        while self._losers and self._losers[0][0] <= number:
            self._losers.popleft()[1].cancel()
        while self._uncounted and self._uncounted[0][0] <= number:
            _, tokens = self._uncounted.popleft()
            self.progress.answered += 1
            self.progress.output_tokens += tokens
        while self._ends and self._ends[0][0] <= number:
            self.progress.ended += self._ends.popleft()[1]

    def on_storage_error(self, error: StorageError) -> None:
        self._fail(error)

    # -- events ------------------------------------------------------------------------------------------------

    async def _until_done(self) -> None:
        while True:
            while self._inbox:
                self._handle(self._inbox.popleft())
            if self._error is not None or self._is_done():
                return
            self._signal.clear()
            await self._signal.wait()

    def _is_done(self) -> bool:
        if self._stopping:
            return not self._flights
        return self._unfinished == 0 and not self._open_ended and not self._sequel.is_busy

    def _emit(self, event: Event) -> None:
        self._inbox.append(event)
        self._signal.set()

    def _handle(self, event: Event) -> None:
        if isinstance(event, OF_ATTEMPTS):
            flight = self._flights.find(event.row, event.lease)
            if flight is None:
                return  # a late word of an old lease
            if isinstance(event, ENDS):
                event = self._record_end(event, flight)
        self._tell(event)

    def _tell(self, event: Event) -> None:
        """Has the strategy decide, and does what it says."""
        self.progress.up += isinstance(event, NodeUp) - isinstance(event, NodeLost)
        actions = self._strategy.on_event(event)
        for note in self._fleet.notes:
            self._stations.follow(note)
        self._act(actions)

    def _record_end(self, event: Ended, flight: InFlight) -> Ended:
        """Queues the end of an attempt for the record; returns what the strategy shall hear of it."""
        self._flights.remove(flight)
        self.progress.running -= 1
        kind: str | None = None
        if flight.is_void:
            used, kind = used_by(event), "cancelled"
            event = Cancelled(event.time, flight.row, flight.node, flight.lease, used)
            self._writer.ended(flight.attempt, kind, event.time, "hedge", "another attempt answered first", used)
        elif isinstance(event, Finished):
            self._record_answer(event, flight)
        elif isinstance(event, Cancelled):
            kind = "cancelled"
            self._writer.ended(flight.attempt, kind, event.time, used=event.used)
        else:
            kind = event.kind
            self._writer.ended(flight.attempt, "failed", event.time, kind, event.message, event.used)
        self._stations.ended(self._stations[flight.node], kind)
        return event

    def _record_answer(self, event: Finished, flight: InFlight) -> None:
        """The row's final word, with the rows it gave rise to; other attempts end once it is committed."""
        self._unfinished -= 1
        self._leases.pop(event.row, None)
        births = list(self._source.follow(event.row, event.answer, event.time))
        entries = [entry for _, entry in births]
        number = self._writer.finished(flight.attempt, event.row, event.time, event.answer, *entries)
        self._uncounted.append((number, event.answer.output_tokens))
        for other in self._flights.of_row(event.row):
            other.is_void = True
            self._losers.append((number, other))
        self.join(arrived for arrived, _ in births)
        self._sequel.heard(event.row, number)

    def _grow(self, entries: list[Entry], arrived: list[Arrived], ended: int) -> int:
        """What came after answers, in one transaction; returns the number of its last entry."""
        number = self._writer.put(*entries)
        self._ends.append((number, ended))
        self.join(arrived)
        self._signal.set()
        return number

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Dispatch):
                if not self._stopping:
                    self._dispatch(action)
            elif isinstance(action, SetAside):
                self._unfinished -= 1
                self._leases.pop(action.row, None)
                self.progress.failed[action.kind] = self.progress.failed.get(action.kind, 0) + 1
                number = self._writer.set_aside(action.row, None, action.kind, action.reason)
                self._sequel.heard(action.row, number)
            elif isinstance(action, WakeAt):
                delay = max(0.0, action.time - self._clock.now())
                self._loop.call_later(delay, self._wake)
            elif isinstance(action, Cancel):
                for flight in self._flights.of_row(action.row):
                    flight.cancel()
            elif isinstance(action, Probe):
                self._stations.probe(action.node)
            elif isinstance(action, Stop):
                self.stop_reason = self.stop_reason or action.reason
                self.stop(self._grace_seconds)

    def _dispatch(self, action: Dispatch) -> None:
        row, node = action.row, action.node
        now = self._clock.now()
        lease = self._leases[row] = self._leases.get(row, 0) + 1
        flight = InFlight(row, node, lease, self._next_attempt)
        self._next_attempt += 1
        self._flights.add(flight)
        self._stations[node].in_flight += 1
        self.progress.running += 1
        number = self._writer.dispatched(flight.attempt, row, lease, node, self._session, now)
        self._unsent.append((number, flight))

    def _wake(self) -> None:
        self._emit(Woke(self._clock.now()))

    async def _attempt(self, station: Station, flight: InFlight) -> None:
        """Turns every error of the engine into a `Failed` event; only our own bugs go further."""
        row, node, lease = flight.row, flight.node, flight.lease

        def begun(now: float) -> None:
            self._emit(FirstToken(now, row, node, lease))

        def paced(now: float, chunks: int) -> None:
            self._emit(Paced(now, row, node, lease, chunks))

        meter = Meter(begun, paced)
        try:
            request = self._source.fetch(row)
            answer = accept(await attempt(station.engine, request, self._clock, meter), self._acceptance)
        except EngineError as error:
            now, used = self._clock.now(), meter.cost(error)
            self._emit(Failed(now, row, node, lease, error.kind, error.message, error.retry_after, used=used))
        except asyncio.CancelledError:
            self._emit(Cancelled(self._clock.now(), row, node, lease, meter.cost()))
        else:
            self._emit(Finished(self._clock.now(), row, node, lease, answer))

    # -- tasks --------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[None]) -> None:
        """A bug in a task ends the run; it must not leave a row waiting for ever."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)

    # -- the end -----------------------------------------------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self._signal.set()

    def _cancel_all(self) -> None:
        for flight in self._flights:
            flight.cancel()

    async def _end(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
        self._cancel_all()
        await self._sequel.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._stations.leave()
        while self._inbox:  # answers that arrived at the last moment are kept
            event = self._inbox.popleft()
            if isinstance(event, ENDS):
                flight = self._flights.find(event.row, event.lease)
                if flight is not None:
                    self._record_end(event, flight)
        await self._stations.close()
        how = "finished" if self._unfinished == 0 else "stopped"
        self._writer.put(("session_ended", (self._clock.now(), how, self._session)))
        try:
            await asyncio.to_thread(self._writer.close)
        except StorageError as error:
            self._fail(error)
        await asyncio.sleep(0)  # lets the writer's last words arrive

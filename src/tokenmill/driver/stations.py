"""The nodes while a run goes on: opened, opened again after a death, asked for a token, closed.

Every interval that a node spends in a phase is recorded. A server that doesn't answer is tried again for as long as
the run lasts; an engine of our own that died a few times without an answer between is given up, and so is a node that
holds another model than the run began with. When no node is left, the run can't go on.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tokenmill.clock import Clock
from tokenmill.cluster import EngineFacts
from tokenmill.driver.station import Phase, Station
from tokenmill.errors import EngineError, NodeGone, NodeUnreachable, TokenmillError
from tokenmill.event import Event, NodeLost, NodeUp, Probed
from tokenmill.record.book import Book
from tokenmill.schedule.fleet import Note
from tokenmill.schedule.health import State

#: Seconds between tries to open a node again after it died.
REOPEN_DELAYS = (0.0, 1.0, 4.0)
#: How devices and placements begin that are no CPU.
GPUS = ("gpu", "cuda", "mps", "rocm")
#: States in which a node is there but takes nothing.
RESTING = (State.BUSY, State.COOLING, State.OFFLINE, State.MISCONFIGURED)
#: Seconds after the first try to reach a server that wasn't there; doubled from then on.
REACH_FIRST = 1.0


class Reach(Struct, frozen=True, kw_only=True):
    """How often a server that isn't there is tried: every `interval` seconds at most, `tries` times or for ever."""

    interval: float
    tries: int | None


class Stations:
    """All nodes of a run; `emit`, `fail` and `spawn` are the driver's."""

    def __init__(
        self,
        stations: list[Station],
        clock: Clock,
        session: int,
        digest: str,
        *,
        reach: Reach,
        emit: Callable[[Event], None],
        fail: Callable[[BaseException], None],
        spawn: Callable[[Coroutine[None, None, None]], object],
        note: Callable[[str], None],
    ) -> None:
        self._all = stations
        self._clock = clock
        self._session = session
        self._digest = digest
        self._reach = reach
        self._emit, self._fail, self._spawn, self._note = emit, fail, spawn, note
        self._writer: Book

    def __getitem__(self, index: int) -> Station:
        return self._all[index]

    def open_all(self, writer: Book) -> None:
        self._writer = writer
        for station in self._all:
            self._spawn(self._open(station, tries=1))

    def ended(self, station: Station, kind: str | None) -> None:
        """An attempt ended there, with an answer (None) or a failure of this class; notices an engine that died."""
        station.in_flight -= 1
        if kind is None:
            station.crashes = 0
        elif kind == "crash" and station.is_up:
            self.enter(station, Phase.FAILING)
        if station.phase is Phase.FAILING and station.in_flight == 0:
            self._bury(station)

    def probe(self, index: int) -> None:
        self._spawn(self._probe(self._all[index]))

    def follow(self, note: Note) -> None:
        """Records how long a node rests, and tells the first time that it comes to a state, and why."""
        station = self._all[note.node]
        rests = note.state in RESTING
        if rests and station.resting_since is None:
            station.resting_since = note.time
        elif not rests:
            self._end_rest(station, note.time)
        if note.state in station.told or note.state is State.BUSY or (not rests and not station.told):
            return
        station.told.add(note.state)
        self._note(f"node {station.node.name!r} is {note.state}: {note.reason}")

    def _end_rest(self, station: Station, now: float) -> None:
        since, station.resting_since = station.resting_since, None
        if since is not None and now > since:
            self._writer.put(("span", (self._session, station.index, "cooling", since, now)))

    def enter(self, station: Station, phase: Phase) -> None:
        """Moves a node to another phase and records the interval that ends."""
        now = self._clock.now()
        if now > station.phase_since:
            entry = (self._session, station.index, station.phase.value, station.phase_since, now)
            self._writer.put(("span", entry))
        station.phase, station.phase_since = phase, now

    async def close(self) -> None:
        for station in self._all:
            await station.engine.close()

    def leave(self) -> None:
        """Records the last interval of each node."""
        for station in self._all:
            self._end_rest(station, self._clock.now())
            self.enter(station, Phase.GONE)

    async def _open(self, station: Station, tries: int) -> None:
        self.enter(station, Phase.OPENING)
        for left, delay in zip(reversed(range(tries)), REOPEN_DELAYS, strict=False):
            await asyncio.sleep(delay)
            try:
                facts = await self._reached(station)
            except TokenmillError as error:
                if left == 0:
                    self._give_up(station, error)
            else:
                break
        else:
            return
        if facts.digest != self._digest:
            name = station.node.name
            self._give_up(station, NodeGone(f"node {name!r} holds another model than the run began with"))
            return
        station.facts = facts
        if facts.caution and facts.caution not in station.told:
            station.told.add(facts.caution)
            self._note(facts.caution)
        self.enter(station, Phase.UP)
        entry = (self._session, station.index, station.node.name, msgspec.json.encode(facts))
        self._writer.put(("node", entry))
        up = NodeUp(self._clock.now(), station.index, facts.slots, facts.look_ahead)
        gpu = facts.device.startswith(GPUS) or facts.placement.lower().startswith(GPUS)
        self._emit(replace(up, priority=station.node.priority, gpu=gpu))

    async def _reached(self, station: Station) -> EngineFacts:
        """Opens the engine, however often its server can't be reached, unless that is limited."""
        delay = REACH_FIRST
        for tries in itertools.count(1):
            try:
                return await station.engine.open()
            except NodeUnreachable as error:
                if tries == self._reach.tries:
                    raise
                if tries == 1:
                    self._note(f"node {station.node.name!r} can't be reached yet ({error}); trying again")
                await asyncio.sleep(min(delay, self._reach.interval))
                delay *= 2
        raise AssertionError("counting has no end")

    def _bury(self, station: Station) -> None:
        """All requests of a dead node have been told: the strategy learns of it, and the engine is opened again."""
        station.crashes += 1
        self._emit(NodeLost(self._clock.now(), station.index))
        if station.is_hopeless:
            died = f"node {station.node.name!r} died {station.crashes} times in a row without one answer; see its log"
            self._give_up(station, NodeGone(died))
        else:
            self._spawn(self._open(station, tries=len(REOPEN_DELAYS)))

    def _give_up(self, station: Station, error: TokenmillError) -> None:
        """The run goes on with the other nodes; the last one takes it along."""
        self.enter(station, Phase.GONE)
        if all(other.phase is Phase.GONE for other in self._all):
            self._fail(error)
        else:
            self._note(f"going on without node {station.node.name!r}: {error}")
            self._emit(Probed(self._clock.now(), station.index, "misconfigured", str(error)))

    async def _probe(self, station: Station) -> None:
        index = station.index
        try:
            await station.engine.probe()
        except EngineError as error:
            event = Probed(self._clock.now(), index, error.kind, error.message, error.retry_after)
        else:
            event = Probed(self._clock.now(), index)
        self._emit(event)

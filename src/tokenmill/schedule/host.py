"""A simulated node, which is only arithmetic: what runs there, how fast, and what waits inside.

Each row takes the node's `overhead` in seconds and then `tokens / speed`, while it is alone. The requests that run
on a device at the same time share it equally, as its `Curve` says (processor sharing). This is exact: a host keeps a
clock of work, which tells the seconds that a request would have needed alone, and runs slower the more run there.
A request ends at a fixed reading of that clock, so when the load changes only the next moment has to be computed
anew, not the end of every request. The ideal node, on which the others make no difference, is the special case whose
clock of work shows the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

from msgspec import Struct, field

from tokenmill.event import Attempt
from tokenmill.schedule.curve import Curve


class SimNode(Struct, frozen=True, kw_only=True):
    """`speed`: tokens per second of a request alone; `overhead`: seconds per row; `restart`: seconds, None for never.

    `slots` and `look_ahead` are what the node says of itself, `curve` is what it really does, and `changes` what it
    does from a moment on. Nodes that name the same `device` share it.
    """

    slots: int = 1
    look_ahead: int = 0
    speed: float = 1.0
    overhead: float = 0.0
    restart: float | None = 1.0
    curve: Curve = Curve()
    changes: tuple[tuple[float, Curve], ...] = ()
    device: str | None = None
    priority: int = 0
    gpu: bool = False

    def work(self, tokens: float) -> float:
        """Seconds until so many tokens are there, when nothing else runs."""
        return self.overhead + tokens / self.speed


class Flight(Struct, eq=False):
    """An attempt on its way; `started` is None while it waits inside the node.

    `mark`: the tokens at which its progress is told next, infinity if nobody wants to know.
    It ends with the failure `kind`, or an answer if that is empty, once the clock of work has gone on by `span`.
    """

    row: int
    lease: int
    dispatched: float
    host: Host
    span: float
    kind: str = ""
    late: float | None = None
    started: float | None = None
    first_token: float | None = None
    number: int = 0  # among those that started there
    begun: float = 0.0
    mark: float = 1
    is_live: bool = True

    def due(self) -> float:
        """The reading of the clock of work at which something happens to it next."""
        return self.begun + min(self.host.facts.work(self.mark), self.span)

    @property
    def is_ending(self) -> bool:
        return self.host.facts.work(self.mark) > self.span

    def as_attempt(self, now: float, outcome: str, tokens: int, kind: str) -> Attempt:
        """As the record would keep it."""
        return Attempt(
            row=self.row,
            lease=self.lease,
            node=self.host.number,
            session=0,
            outcome=outcome,
            dispatched=self.dispatched,
            finished=now,
            first_token=self.first_token,
            output_tokens=tokens,
            kind=kind,
        )


class Device(Struct, eq=False):
    """What hosts run on; most have their own."""

    hosts: list[Host] = field(default_factory=list)

    def change_pace(self, now: float) -> None:
        running = sum(host.running for host in self.hosts)
        servers = sum(host.running > 0 for host in self.hosts)
        for host in self.hosts:
            host.run_at(host.curve.pace(running, servers), now)


class Host(Struct, eq=False):
    """A simulated node; `outages` are those in force.

    `stamp` changes whenever the next moment does, `watched` is
    that of the moment which the simulation waits for.
    """

    number: int
    facts: SimNode
    device: Device
    curve: Curve
    is_up: bool = False
    outages: int = 0
    running: int = 0
    stamp: int = 0
    watched: int = 0
    flights: dict[int, Flight] = field(default_factory=dict)
    waiting: deque[Flight] = field(default_factory=deque)
    _due: list[tuple[float, int, Flight]] = field(default_factory=list)
    _pace: float = 1.0
    _time: float = 0.0  # when the pace last changed, and what the clock of work showed then
    _work: float = 0.0
    _started: int = 0

    @property
    def free(self) -> int:
        return (self.curve.slots or self.facts.slots) - self.running

    def open(self, now: float) -> None:
        """Comes up empty."""
        self.is_up, self.running = True, 0
        self.flights, self.waiting, self._due = {}, deque(), []
        self.device.change_pace(now)

    def close(self, now: float) -> list[Flight]:
        """Goes down; returns what was there, which has no future any more."""
        self.is_up, self.running = False, 0
        self.stamp += 1
        lost = list(self.flights.values())
        for flight in lost:
            flight.is_live = False
        self.device.change_pace(now)
        return lost

    def put(self, flight: Flight, now: float) -> None:
        """Starts a request, or has it wait."""
        self.waiting.append(flight)
        self.start_waiting(now)

    def start_waiting(self, now: float) -> None:
        while self.waiting and self.free > 0:
            flight = self.waiting.popleft()
            self.running += 1
            self._started += 1
            flight.started, flight.number, flight.begun = now, self._started, self._worked(now)
            self._expect(flight)
        self.device.change_pace(now)

    def take(self, flight: Flight, now: float) -> None:
        """Takes out a request, running or waiting; the next that waits starts."""
        flight.is_live = False
        self.stamp += 1
        if flight.started is not None:
            self.running -= 1
            self.start_waiting(now)
        elif flight in self.waiting:
            self.waiting.remove(flight)

    def advance(self) -> Flight:
        """The flight to which something happens now; it either goes on or is taken out."""
        self.stamp += 1
        return heappop(self._due)[2]

    def go_on(self, flight: Flight) -> None:
        flight.mark *= 2
        self._expect(flight)

    def next_moment(self) -> float | None:
        """When something happens here next, if the load stays as it is."""
        while self._due and not self._due[0][2].is_live:
            heappop(self._due)
        return self._time + (self._due[0][0] - self._work) / self._pace if self._due else None

    def run_at(self, pace: float, now: float) -> None:
        """From now on the clock of work goes at this pace. An unchanged one adds no rounding."""
        if pace != self._pace:
            self.stamp += 1
            self._work, self._time, self._pace = self._worked(now), now, pace

    def _worked(self, now: float) -> float:
        return self._work + (now - self._time) * self._pace

    def _expect(self, flight: Flight) -> None:
        self.stamp += 1
        heappush(self._due, (flight.due(), flight.number, flight))


def make_hosts(nodes: Sequence[SimNode]) -> list[Host]:
    devices: dict[str, Device] = {}
    hosts = []
    for number, facts in enumerate(nodes):
        device = Device() if facts.device is None else devices.setdefault(facts.device, Device())
        hosts.append(Host(number=number, facts=facts, device=device, curve=facts.curve))
        device.hosts.append(hosts[-1])
    return hosts

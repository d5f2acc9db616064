"""Plays a strategy on virtual time: the same object that a run uses, against nodes that are only arithmetic.

What a node does is in `host`. By default it answers `slots` rows at the same time, each at its own pace, whatever the
others do. So the simulated makespan is that of a server that scales perfectly; what a real one loses shows as the
difference. Rows beyond the slots wait inside the node in the order in which they came.

The simulator is strict: an action that no correct strategy takes (one live attempt of a row too many, more rows than a
node has places for, or than a `Fleet` wants there, a dispatch after the end) is an assertion error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from math import inf

from tokenmill.event import (
    Action,
    Answer,
    Arrived,
    Attempt,
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
    Probed,
    SetAside,
    Stop,
    WakeAt,
    Woke,
)
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.faults import Faults, Mishap, Outage, Script, Spell
from tokenmill.schedule.fleet import Fleet, Note
from tokenmill.schedule.host import Device, Flight, Host, SimNode, make_hosts
from tokenmill.schedule.outcome import SimRow, Simulated
from tokenmill.schedule.roll import Roll
from tokenmill.schedule.strategy import Strategy, heeds_progress

__all__ = ["Faults", "Mishap", "Outage", "SimNode", "SimRow", "Simulated", "Spell", "simulate"]


def simulate(
    strategy: Strategy,
    rows: Iterable[SimRow],
    nodes: Sequence[SimNode],
    faults: Faults | None = None,
    *,
    keep_log: bool = False,
    until: float = inf,
    legs: int = 1,
    keep_attempts: bool = True,
) -> Simulated:
    """Runs until nothing more can happen, or so many seconds; rows without a node to run on stay unfinished.

    `legs`: attempts of a row at the same time, on different nodes; the first answer ends the others. Without
    `keep_attempts` they are only counted, rows are read as they arrive (so they must come in that order), and progress
    is told to no strategy that doesn't heed it: ten million rows then take some hundred megabytes.
    """
    roll = Roll(sorted(rows, key=lambda row: row.arrives) if keep_attempts else rows)
    simulation = _Simulation(strategy, nodes, faults or Faults(), roll, legs)
    simulation.keeps_log, simulation.keeps_attempts = keep_log, keep_attempts
    simulation.first_mark = 1 if keep_attempts or heeds_progress(strategy) else inf
    simulation.await_arrival()
    for outage in simulation.faults.outages:
        simulation.at(outage.down, simulation.outage_begins, outage.node)
        if outage.up is not None:
            simulation.at(outage.up, simulation.outage_ends, outage.node)
    for spell in simulation.faults.spells:
        simulation.at(spell.begins, simulation.spell_begins, spell)
    for node, facts in enumerate(nodes):
        simulation.at(0.0, simulation.node_up, node)
        for moment, curve in facts.changes:
            simulation.at(moment, simulation.change, node, curve)
    simulation.run(until)
    return Simulated(
        makespan=simulation.last_end,
        stopped=simulation.stopped,
        wakes=simulation.most_wakes,
        notes=simulation.notes,
        attempts=simulation.attempts,
        attempted=simulation.attempted,
        delivered=simulation.delivered,
        set_aside=simulation.set_aside,
        unfinished=roll.count_unfinished(),
        log=simulation.log,
    )


class _Simulation:
    """Virtual time: a heap of what will be called when, in the order of asking among equals."""

    def __init__(self, strategy: Strategy, nodes: Sequence[SimNode], faults: Faults, roll: Roll, legs: int) -> None:
        self.strategy = strategy
        self.faults = faults
        self.script = Script(faults)
        self.hosts = make_hosts(nodes)
        self.roll = roll
        self.flights: dict[int, dict[int, Flight]] = {}  # by row and node
        self.leases: dict[int, int] = {}  # of rows that were sent and aren't final
        self.set_aside: dict[int, SetAside] = {}
        self.attempts: list[Attempt] = []
        self.attempted = self.delivered = 0
        self.log: list[tuple[Event, list[Action]]] = []
        self.now = 0.0
        self.last_end = 0.0
        self.stopped: str | None = None
        self.most_wakes = 0
        self.notes: list[Note] = []
        self._wakes = 0
        self._probed: set[int] = set()
        self.keeps_log = self.keeps_attempts = False
        self.first_mark: float = 1
        self._answers: dict[int, Answer] = {}  # by tokens: all that is told of an answer
        self._legs = legs
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._numbers = count()

    def at(self, time: float, call: Callable[..., None], *given: object) -> None:
        heappush(self._agenda, (time, next(self._numbers), call, given))

    def run(self, until: float) -> None:
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, call, given = heappop(self._agenda)
            call(*given)

    def deliver(self, event: Event) -> None:
        self.delivered += 1
        actions = self.strategy.on_event(event)
        if isinstance(self.strategy, Fleet):
            self.notes += self.strategy.notes
        if self.keeps_log:
            self.log.append((event, actions))
        for action in actions:
            match action:
                case Dispatch(row=row, node=node):
                    self._dispatch(row, self.hosts[node])
                case WakeAt(time=time):
                    self._wake_at(max(time, self.now))
                case Probe(node=node):
                    self._probe(self.hosts[node])
                case Stop(reason=reason):
                    self.stopped = self.stopped or reason
                case SetAside(row=row):
                    assert row not in self.flights, f"row {row} was set aside in flight"
                    assert not self.roll.is_answered(row), f"row {row} was set aside after its answer"
                    assert not self.roll.is_set_aside(row), f"row {row} was set aside twice"
                    self.set_aside[row] = action
                    self.roll.set_aside(row)
                    self.leases.pop(row, None)
                    self.last_end = self.now
                case Cancel(row=row):
                    self._cancel_all(row)

    @property
    def _is_over(self) -> bool:
        return self.stopped is not None or self.roll.is_over

    def _wake_at(self, time: float) -> None:
        if not self._is_over:
            self._wakes += 1
            self.most_wakes = max(self.most_wakes, self._wakes)
            self.at(time, self.wake)

    def wake(self) -> None:
        self._wakes -= 1
        self.deliver(Woke(self.now))

    def await_arrival(self) -> None:
        """Rows come before all else of their moment: the driver announces those it knows before the nodes."""
        if self.roll.next_arrival < inf:
            heappush(self._agenda, (self.roll.next_arrival, -1, self.arrive, ()))

    def arrive(self) -> None:
        for row in self.roll.arrivals(self.now):
            length = row.tokens if row.length is None else row.length
            self.deliver(Arrived(self.now, row.row, length, row.group))
        self.await_arrival()

    # Nodes

    def node_up(self, number: int) -> None:
        """Also the end of a restart, which does nothing for a node that is up already or can't be reached."""
        host = self.hosts[number]
        if host.is_up or host.outages:
            return
        host.open(self.now)
        self._watch(host.device)
        facts = host.facts
        self.deliver(NodeUp(self.now, number, facts.slots, facts.look_ahead, facts.priority, facts.gpu))

    def outage_begins(self, number: int) -> None:
        host = self.hosts[number]
        host.outages += 1
        if host.is_up:
            self._go_down(host, "transient")

    def outage_ends(self, number: int) -> None:
        self.hosts[number].outages -= 1
        self.node_up(number)

    def _go_down(self, host: Host, kind: str) -> None:
        lost = host.close(self.now)
        self._watch(host.device)
        for flight in lost:
            self._fail(flight, kind)
        self.deliver(NodeLost(self.now, host.number))
        if kind == "crash" and host.facts.restart is not None:
            self.at(self.now + host.facts.restart, self.node_up, host.number)

    def change(self, number: int, curve: Curve) -> None:
        """The node behaves in another way from now on; what runs there goes on."""
        host = self.hosts[number]
        host.curve = curve
        host.start_waiting(self.now)
        self._watch(host.device)

    def step(self, host: Host, stamp: int) -> None:
        """Something happens on a host, unless another moment came first."""
        if stamp != host.stamp:
            return
        flight = host.advance()
        if flight.is_ending:
            self.end(flight, flight.kind)
        else:
            tokens = int(flight.mark)
            host.go_on(flight)
            self._tell_progress(flight, tokens)
        self._watch(host.device)

    def _tell_progress(self, flight: Flight, tokens: int) -> None:
        row, node, lease = flight.row, flight.host.number, flight.lease
        if tokens == 1:
            flight.first_token = self.now
            self.deliver(FirstToken(self.now, row, node, lease))
        else:
            self.deliver(Paced(self.now, row, node, lease, tokens))

    def _watch(self, device: Device) -> None:
        """Waits for the next moment of each host on the device."""
        for host in device.hosts:
            if host.stamp != host.watched and host.is_up:
                host.watched = host.stamp
                moment = host.next_moment()
                if moment is not None:
                    self.at(max(moment, self.now), self.step, host, host.stamp)

    def spell_begins(self, spell: Spell) -> None:
        host = self.hosts[spell.node]
        if not spell.cuts or not spell.kind:
            return
        for flight in list(host.flights.values()):
            host.take(flight, self.now)
            self._doom(flight, spell)
        self._watch(host.device)

    def _probe(self, host: Host) -> None:
        assert host.number not in self._probed, f"node {host.number} is probed already"
        if self._is_over:
            return
        self._probed.add(host.number)
        spell = self.script.spell(host.number, self.now, len(host.flights))
        if not host.is_up:
            spell = Spell(node=host.number, begins=0, ends=0, kind="unreachable")
        if spell is None or not spell.kind:
            self.at((spell.ends if spell else self.now) + host.facts.work(1), self.probed, host, None)
        else:
            self.at(self.now + spell.after, self.probed, host, spell)

    def probed(self, host: Host, spell: Spell | None) -> None:
        self._probed.discard(host.number)
        kind, asked = (spell.kind, spell.retry_after) if spell else ("", None)
        self.deliver(Probed(self.now, host.number, kind, "", asked))

    # Attempts

    def _dispatch(self, row: int, host: Host) -> None:
        legs = self.flights.get(row, {})
        assert len(legs) < self._legs, f"row {row} has {len(legs) + 1} live attempts"
        assert host.number not in legs, f"row {row} has 2 live attempts on node {host.number}"
        assert not self.roll.is_answered(row), f"row {row} was sent again after its answer"
        assert not self.roll.is_set_aside(row), f"row {row} was sent after it was set aside"
        assert len(host.flights) < host.facts.slots + host.facts.look_ahead, f"node {host.number} is overfull"
        if isinstance(self.strategy, Fleet):
            assert len(host.flights) < self.strategy.room(host.number), f"node {host.number} is to rest"
        if self.stopped is not None:
            return
        spell = self.script.spell(host.number, self.now, len(host.flights))
        lease = self.leases[row] = self.leases.get(row, 0) + 1
        flight = self._make_flight(row, lease, host)
        self.flights.setdefault(row, {})[host.number] = host.flights[row] = flight
        if not host.is_up:
            self.at(self.now, self.end, flight, "transient")  # sent before the loss of the node was known
        elif spell is None:
            self.begin(flight)
        elif spell.kind:
            self._doom(flight, spell)
        else:
            self.at(spell.ends, self.begin, flight)

    def begin(self, flight: Flight) -> None:
        """The attempt is in the hands of its node, unless that was lost before."""
        if flight.is_live:
            flight.host.put(flight, self.now)
            self._watch(flight.host.device)

    def _make_flight(self, row: int, lease: int, host: Host) -> Flight:
        span = host.facts.work(self.roll.tokens(row))
        mishap = self.script.mishap(row, lease)
        if mishap is None:
            return Flight(row, lease, self.now, host, span, mark=self.first_mark)
        return Flight(row, lease, self.now, host, span * mishap.part, mishap.kind, mishap.late, mark=self.first_mark)

    def _doom(self, flight: Flight, spell: Spell) -> None:
        """The attempt will end as the spell says; what it would have been doesn't happen."""
        flight.is_live, flight.late = True, spell.late
        self.at(self.now + spell.after, self.end, flight, spell.kind, spell.retry_after)

    def end(self, flight: Flight, kind: str, retry_after: float | None = None) -> None:
        """An attempt comes to the end that was foreseen for it, unless its node was lost before."""
        if not flight.is_live:
            return
        if flight.late is not None:
            self.at(self.now + flight.late, self.answer_late, flight)
        if self.roll.is_answered(flight.row):
            self.cancel(flight)
            return
        if kind == "crash":
            self._go_down(flight.host, "crash")
            return
        self._vacate(flight)
        if kind:
            self._fail(flight, kind, retry_after)
        else:
            self._note(flight, "answered")
            self.roll.answer(flight.row)
            self.last_end = self.now
            self._cancel_all(flight.row)
            self.deliver(self._finished(flight))

    def _cancel_all(self, row: int) -> None:
        for flight in self.flights.get(row, {}).values():
            self.at(self.now, self.cancel, flight)

    def answer_late(self, flight: Flight) -> None:
        self.deliver(self._finished(flight))

    def cancel(self, flight: Flight) -> None:
        if flight.is_live:
            self._vacate(flight)
            self._give_up(flight)

    def _give_up(self, flight: Flight) -> None:
        self._note(flight, "cancelled")
        self.deliver(Cancelled(self.now, flight.row, flight.host.number, flight.lease))

    def _vacate(self, flight: Flight) -> None:
        """Takes the flight off its node, where the next one starts."""
        flight.host.take(flight, self.now)
        self._watch(flight.host.device)

    def _fail(self, flight: Flight, kind: str, retry_after: float | None = None) -> None:
        if self.roll.is_answered(flight.row):
            self._give_up(flight)
            return
        self._note(flight, "failed", kind)
        node, lease = flight.host.number, flight.lease
        self.deliver(Failed(self.now, flight.row, node, lease, kind, retry_after=retry_after))

    def _finished(self, flight: Flight) -> Finished:
        tokens = self.roll.tokens(flight.row)
        answer = self._answers.get(tokens)
        if answer is None:
            answer = Answer(text="", finish_reason="stop", prompt_tokens=0, output_tokens=tokens)
            self._answers[tokens] = answer
        return Finished(self.now, flight.row, flight.host.number, flight.lease, answer)

    def _note(self, flight: Flight, outcome: str, kind: str = "") -> None:
        """Closes the flight and keeps it as the record would."""
        legs = self.flights[flight.row]
        del legs[flight.host.number]
        if not legs:
            del self.flights[flight.row]
            if outcome == "answered" or self.roll.is_answered(flight.row):
                del self.leases[flight.row]
        flight.host.flights.pop(flight.row, None)
        self.attempted += 1
        if self.keeps_attempts:
            tokens = self.roll.tokens(flight.row) if outcome == "answered" else 0
            self.attempts.append(flight.as_attempt(self.now, outcome, tokens, kind))

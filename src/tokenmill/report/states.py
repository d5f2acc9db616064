"""What every slot did in every second: each slot-second of the run is in exactly one state.

A second of the run is shared out evenly over the slots that are there in it, so the states add up to the makespan
with any number of slots, also when nodes come and go. Of the slots of a node:

- loading: all of them while the node loads;
- generating: working on an attempt that became the answer of its row;
- retried: working on an attempt that did not;
- cooling: idle on a node that is held back or restarting, or idle because the rows that are left are backing off;
- client: idle while a row was waiting to be sent, one slot for each such row;
- tail: idle with nothing left to send.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge

from msgspec import Struct

from tokenmill.report.presence import ABSENT, COOLING, LOADING, READY, Interval, phases
from tokenmill.report.timeline import ANSWERED, OPENS, Timeline, moments
from tokenmill.report.waiting import waiting

#: What else `_everything` yields besides the moments of attempts; rows and phases of that time come after those.
#: `BORN` comes with a number of rows, and not with an index.
ROWS, BORN, PHASE = 3, 4, 5


class States(Struct, frozen=True, kw_only=True):
    """Seconds of the run by state; they add up to the makespan.

    `only_loading`: seconds in which a node loaded and nothing ran. `running`: seconds with a request in flight;
    `in_company`: those of them in which at least one more row was in flight or waiting. `most_in_flight`: requests.
    """

    loading: float = 0.0
    generating: float = 0.0
    retried: float = 0.0
    cooling: float = 0.0
    client: float = 0.0
    tail: float = 0.0
    only_loading: float = 0.0
    running: float = 0.0
    in_company: float = 0.0
    most_in_flight: int = 0


class _Sweep:
    """The slots and rows at one moment, and the seconds until then."""

    def __init__(self, slots: list[int]) -> None:
        self.slots = slots
        self.state = [ABSENT] * len(slots)
        self.answering = [0] * len(slots)
        self.retrying = [0] * len(slots)
        self.present = self.loading = self.ready = self.held = self.good = self.wasted = 0
        self.waiting = self.backing = self.in_flight = self.most_in_flight = 0
        self.was_there = False
        self.seconds = [0.0] * 6
        self.only_loading = self.running = self.in_company = 0.0

    def count(self, node: int, sign: int) -> None:
        """Adds (1) or removes (-1) a node as it stands now."""
        state, slots = self.state[node], self.slots[node]
        if state == ABSENT:
            return
        self.present += sign * slots
        if state == LOADING:
            self.loading += sign * slots
            return
        answering, retrying = self.answering[node], self.retrying[node]
        self.good += sign * answering
        self.wasted += sign * retrying
        if state == READY:
            self.ready += sign * (slots - answering - retrying)
        else:
            self.held += sign * (slots - answering - retrying)

    def work(self, node: int, is_answer: bool, sign: int) -> None:
        """A slot of the node begins (1) or ends (-1) an attempt."""
        kind = self.answering if is_answer else self.retrying
        kind[node] += sign
        state = self.state[node]
        if state in (READY, COOLING):
            if is_answer:
                self.good += sign
            else:
                self.wasted += sign
            if state == READY:
                self.ready -= sign
            else:
                self.held -= sign

    def change(self, node: int, state: int) -> None:
        self.count(node, -1)
        self.state[node] = state
        self.count(node, 1)
        self.was_there = True

    def spend(self, passed: float) -> None:
        """Shares out the seconds since the last change."""
        if self.in_flight:
            self.running += passed
            if self.in_flight + max(0, self.waiting) + self.backing > 1:
                self.in_company += passed
        elif self.loading:
            self.only_loading += passed
        seconds = self.seconds
        if not self.present:
            # Before the first node of the run this is start-up, after it all nodes are gone.
            seconds[3 if self.was_there else 0] += passed
            return
        share = passed / self.present
        ready = self.ready
        client = min(ready, max(0, self.waiting))
        backing = min(ready - client, self.backing)
        seconds[0] += self.loading * share
        seconds[1] += self.good * share
        seconds[2] += self.wasted * share
        seconds[3] += (self.held + backing) * share
        seconds[4] += client * share
        seconds[5] += (ready - client - backing) * share


def states(timeline: Timeline, there: list[list[Interval]]) -> States:
    """One walk through everything that happened, in order of time."""
    sweep = _Sweep([max(1, node.slots) for node in timeline.facts.nodes])
    rows = waiting(timeline)
    changes, turns = rows.changes, phases(timeline, there)
    extras = sorted(
        [(change.time, ROWS, index) for index, change in enumerate(changes)]
        + [(phase.time, PHASE, index) for index, phase in enumerate(turns)]
    )
    now = 0.0
    for time, what, index in _everything(timeline, extras):
        if time > now:
            sweep.spend(time - now)
            now = time
        if what <= OPENS:  # a slot opens or closes
            sign = 1 if what == OPENS else -1
            sweep.work(timeline.node[index], timeline.outcome[index] == ANSWERED, sign)
            if sign < 0:
                sweep.in_flight -= 1
        elif what == ROWS:
            sweep.waiting += changes[index].waiting
            sweep.backing += changes[index].backing
        elif what == BORN:
            sweep.waiting += index
        elif what == PHASE:
            sweep.change(turns[index].node, turns[index].state)
        else:
            sweep.waiting -= rows.is_plain[index]
            sweep.in_flight += 1
            sweep.most_in_flight = max(sweep.most_in_flight, sweep.in_flight)
    if timeline.makespan > now:
        sweep.spend(timeline.makespan - now)
    return _result(sweep)


def _everything(timeline: Timeline, extras: list[tuple[float, int, int]]) -> Iterator[tuple[float, int, int]]:
    attempts = moments(timeline.started, timeline.finished, timeline.dispatched)
    born = ((timeline.at(each.session, each.time), BORN, each.rows) for each in timeline.facts.arrivals)
    return (moment for moment in merge(extras, born, attempts) if moment[0] <= timeline.makespan)


def _result(sweep: _Sweep) -> States:
    loading, generating, retried, cooling, client, tail = sweep.seconds
    return States(
        loading=loading,
        generating=generating,
        retried=retried,
        cooling=cooling,
        client=client,
        tail=tail,
        only_loading=sweep.only_loading,
        running=sweep.running,
        in_company=sweep.in_company,
        most_in_flight=sweep.most_in_flight,
    )

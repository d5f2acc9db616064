"""A queue per worker; who runs dry takes from the back of the longest."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush, heapreplace

from tokenmill.event import Action, Arrived, Cancelled, Event, Failed, Finished, NodeLost, NodeUp, Resized
from tokenmill.schedule.worker import Crew, Worker


class Stealing:
    """Rows are dealt round robin; the owner takes the front of its queue, an idle worker steals.

    A thief takes one row from the back of the longest queue (the first worker among equals), and only when it has
    nothing in flight: look-ahead is filled from its own queue alone. So no worker is idle while a row waits. A
    node that comes up during the run starts with empty queues and steals; the queues of a lost node are dealt to
    the others. Every event is O(log workers + log rows), but for those that change the nodes, which are linear in the
    workers and in the rows that move, and the ends of rows on a node with fewer slots than before.
    """

    heeds_progress = False

    def __init__(self, rank: Callable[[int, float], int]) -> None:
        self._rank = rank
        self._crew = Crew()
        self._idle: dict[Worker, None] = {}  # in the order in which they ran dry
        self._victims = _Victims()

    @property
    def steals(self) -> dict[tuple[int, int], int]:
        """Rows stolen by each worker that is up, by (node, slot)."""
        return {(worker.node, worker.slot): worker.steals for worker in self._crew.workers}

    def on_event(self, event: Event, /) -> list[Action]:
        match event:
            case Arrived(row=row, length=length):
                return self._arrived(self._rank(row, length))
            case Finished(row=row) | Failed(row=row) | Cancelled(row=row):
                self._deal_pool()
                worker, again = self._crew.ended(row), self._crew.returning(row)
                actions = [] if again is None else self._arrived(again)
                return actions + (self._fill(worker) if worker else [])
            case NodeUp():
                return self._regroup(self._crew.join(event))
            case NodeLost(node=node):
                self._crew.leave(node)
                return self._regroup([])
            case Resized():
                return self._regroup(self._crew.resize(event)[0])
        return []

    def _arrived(self, rank: int) -> list[Action]:
        owner = self._crew.add(rank)
        if owner is None:
            return []
        if owner.has_place:
            return self._fill(owner)
        self._victims.grew(owner)
        return self._fill(next(iter(self._idle))) if self._idle else []

    def _deal_pool(self) -> None:
        if self._crew.pool and self._crew.workers:
            self._crew.deal()
            for owner in self._crew.workers:
                self._victims.grew(owner)

    def _regroup(self, changed: list[Worker]) -> list[Action]:
        """Puts the pool and the workers of a node that changed to use."""
        actions = self._crew.spread()
        there = set(self._crew.workers)
        self._idle = {worker: None for worker in self._idle if not worker.busy and worker in there}
        for worker in changed:
            actions += self._fill(worker)
        return actions

    def _fill(self, worker: Worker) -> list[Action]:
        actions = self._crew.fill(worker)
        if not worker.busy and worker.has_place and (victim := self._victims.longest()):
            worker.steals += 1
            actions.append(self._crew.start(worker, victim.lane.pop_back()))
        if worker.busy or not worker.has_place:
            self._idle.pop(worker, None)
        else:
            self._idle[worker] = None
        return actions


class _Victims:
    """Finds the longest queue in O(log workers), amortised.

    The heap holds what a queue's length was when last looked at. Lengths that fell since are corrected when they
    reach the top; those that rose are entered anew by the next look. A worker has one valid entry at most.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Worker]] = []  # -length, number, worker
        self._grown: dict[Worker, None] = {}
        self._entered: dict[Worker, int] = {}

    def grew(self, worker: Worker) -> None:
        self._grown[worker] = None

    def longest(self) -> Worker | None:
        """The worker that has most rows waiting, None if no row waits."""
        for worker in self._grown:
            self._enter(worker)
        self._grown.clear()
        while self._heap:
            length, number, worker = self._heap[0]
            now = len(worker.lane)
            if self._entered.get(worker) != -length or not now:
                heappop(self._heap)
                if not now:
                    self._entered.pop(worker, None)
            elif now != -length:
                self._entered[worker] = now
                heapreplace(self._heap, (-now, number, worker))
            else:
                return worker
        return None

    def _enter(self, worker: Worker) -> None:
        length = len(worker.lane)
        if length > self._entered.get(worker, 0):
            self._entered[worker] = length
            heappush(self._heap, (-length, worker.number, worker))

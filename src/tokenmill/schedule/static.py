"""Rows are dealt to workers and stay there: what most home-made parallel clients do."""

from __future__ import annotations

from collections.abc import Callable

from tokenmill.event import Action, Arrived, Cancelled, Event, Failed, Finished, NodeLost, NodeUp, Resized
from tokenmill.schedule.worker import Crew


class Static:
    """Deals row i to worker i mod T, or in blocks if it knows how many rows to `expect` (see `Crew`).

    Nothing moves between workers while the nodes stay the same. When a node comes or goes, all rows that still wait
    are dealt anew, in order: O(waiting). The order of a worker's queue is that of `rank`; it can't change the
    makespan, as the sum of each worker is fixed.
    """

    heeds_progress = False

    def __init__(self, rank: Callable[[int, float], int], expect: int | None = None) -> None:
        self._rank = rank
        self._crew = Crew(expect)
        self._is_block = expect is not None

    def on_event(self, event: Event, /) -> list[Action]:
        crew = self._crew
        match event:
            case Arrived(row=row, length=length):
                return self._arrived(self._rank(row, length))
            case Finished(row=row) | Failed(row=row) | Cancelled(row=row):
                if crew.pool and crew.workers:
                    crew.deal()
                worker, again = crew.ended(row), crew.returning(row)
                actions = [] if again is None else self._arrived(again)
                return actions + (crew.fill(worker) if worker else [])
            case NodeUp():
                crew.join(event)
                return self._regroup()
            case Resized():
                crew.resize(event)
                return self._regroup()
            case NodeLost(node=node):
                crew.leave(node)
                return self._regroup()
        return []

    def _arrived(self, rank: int) -> list[Action]:
        owner = self._crew.add(rank)
        return self._crew.fill(owner) if owner else []

    def _regroup(self) -> list[Action]:
        crew = self._crew
        crew.gather(crew.workers)
        if not self._is_block or not crew.workers:
            return crew.spread()
        crew.deal()  # at once: the first row of a block isn't the first that waits
        return [action for worker in crew.workers for action in crew.fill(worker)]

"""Workers for the strategies that give every slot its own queue: one worker is one slot of one node."""

from __future__ import annotations

from tokenmill.event import Action, Dispatch, NodeUp
from tokenmill.schedule.lane import Lane


class Worker:
    """One slot: its queue, how many rows it has in flight, and how many it stole.

    `number` counts the workers of a crew in the order in which they joined, the lost ones too. `places` is one, plus
    its share of the node's look-ahead, so a node never has more than slots + look_ahead.
    """

    __slots__ = ("busy", "gone", "lane", "node", "number", "places", "slot", "steals")

    def __init__(self, number: int, node: int, slot: int, places: int) -> None:
        self.number = number
        self.node = node
        self.slot = slot
        self.places = places
        self.lane = Lane()
        self.busy = 0
        self.steals = 0
        self.gone = False


class Crew:
    """The workers of all nodes that are up, who runs which row, and who is dealt the next.

    Rows are dealt round robin or, when `expect` says how many there will be, in blocks: the first part of them to the
    first worker, and so on; rows beyond that number go round robin. The `pool` holds rows that nobody owns, because
    the nodes are only coming up or have changed. Free places take from it at once, so while it holds a row, every
    worker is full, and it needs to be dealt only when one has finished: not once for each node of a thousand.
    """

    def __init__(self, expect: int | None = None) -> None:
        self.workers: list[Worker] = []
        self.pool = Lane()
        self._joined = 0
        self._running: dict[int, Worker] = {}
        self._is_block = expect is not None
        self._to_come = expect or 0
        self._turn = 0  # rows of the present deal that have an owner
        self._deal = 0  # rows of the present deal in all, as far as known

    def join(self, up: NodeUp) -> list[Worker]:
        """One worker per slot, which share the look-ahead as evenly as it goes."""
        assert all(worker.node != up.node for worker in self.workers), f"node {up.node} is up already"
        share, rest = divmod(up.look_ahead, up.slots)
        new = [Worker(self._joined + slot, up.node, slot, 1 + share + (slot < rest)) for slot in range(up.slots)]
        self._joined += up.slots
        self.workers += new
        return new

    def leave(self, node: int) -> list[Worker]:
        """Takes out the workers of a lost node and returns them; what they run ends without freeing anything."""
        lost = [worker for worker in self.workers if worker.node == node]
        for worker in lost:
            worker.gone = True
        self.workers = [worker for worker in self.workers if not worker.gone]
        self.gather(lost)
        return lost

    def gather(self, workers: list[Worker]) -> None:
        """Puts what waits for these workers into the pool."""
        ranks = [rank for worker in workers for rank in worker.lane.drain()]
        if ranks:
            self.pool.refill(sorted(self.pool.drain() + ranks))

    def add(self, rank: int) -> Worker | None:
        """Gives a row that arrived to its owner, or to the pool (None)."""
        self._to_come = max(0, self._to_come - 1)
        if self.pool or not self.workers:
            self.pool.push(rank)
            return None
        worker = self._next_owner()
        worker.lane.push(rank)
        return worker

    def deal(self) -> None:
        """Begins a new deal: gives every row of the pool an owner, before a place becomes free.

        The rows in flight count as the first of the deal, so that early starts don't shift it.
        """
        ranks = self.pool.drain()
        self._turn = sum(worker.busy for worker in self.workers)
        self._deal = self._turn + len(ranks) + self._to_come
        for rank in ranks:
            self._next_owner().lane.push(rank)

    def spread(self) -> list[Action]:
        """Starts rows of the pool in all free places, one per worker in turn."""
        actions: list[Action] = []
        while self.pool and (free := [worker for worker in self.workers if worker.busy < worker.places]):
            actions += [self.start(worker, self.pool.pop_front()) for worker in free[: len(self.pool)]]
        return actions

    def start(self, worker: Worker, row: int) -> Action:
        worker.busy += 1
        self._running[row] = worker
        return Dispatch(row, worker.node)

    def fill(self, worker: Worker) -> list[Action]:
        """Starts rows of the worker's own queue in its free places."""
        actions: list[Action] = []
        while worker.busy < worker.places and worker.lane:
            actions.append(self.start(worker, worker.lane.pop_front()))
        return actions

    def ended(self, row: int) -> Worker | None:
        """The worker that has a free place now; None if its node is gone."""
        worker = self._running.pop(row, None)
        if worker is None or worker.gone:
            return None
        worker.busy -= 1
        return worker

    def _next_owner(self) -> Worker:
        turn, count = self._turn, len(self.workers)
        self._turn += 1
        if self._is_block and turn < self._deal:
            return self.workers[turn * count // self._deal]
        return self.workers[turn % count]

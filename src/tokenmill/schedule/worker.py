"""Workers for the strategies that give every slot its own queue: one worker is one slot of one node."""

from __future__ import annotations

from tokenmill.event import Action, Dispatch, NodeUp, Resized
from tokenmill.schedule.lane import Lane
from tokenmill.schedule.order import row_of


class _Post:
    """A node from one `NodeUp` to its loss: its places, and what runs in them, for workers that left as well."""

    __slots__ = ("busy", "places", "workers")

    def __init__(self) -> None:
        self.places = self.busy = 0
        self.workers: list[Worker] = []


class Worker:
    """One slot: its queue, how many rows it has in flight, and how many it stole.

    `number` counts the workers of a crew in the order in which they joined, the lost ones too. `places` is one, plus
    its share of the node's look-ahead, so a node never has more than slots + look_ahead.
    """

    __slots__ = ("busy", "lane", "node", "number", "places", "post", "slot", "steals")

    def __init__(self, number: int, node: int, slot: int, post: _Post) -> None:
        self.number = number
        self.node = node
        self.slot = slot
        self.post = post
        self.places = 1
        self.lane = Lane()
        self.busy = 0
        self.steals = 0

    @property
    def has_place(self) -> bool:
        """Whether it may start a row. After its node has shrunk, what still runs there counts too."""
        return self.busy < self.places and self.post.busy < self.post.places


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
        self._posts: dict[int, _Post] = {}
        self._joined = 0
        self._running: dict[int, Worker] = {}
        self._returning: dict[int, int] = {}  # ranks of rows that arrived again before their attempt has ended
        self._is_block = expect is not None
        self._to_come = expect or 0
        self._turn = 0  # rows of the present deal that have an owner
        self._deal = 0  # rows of the present deal in all, as far as known

    def join(self, up: NodeUp) -> list[Worker]:
        """One worker per slot."""
        assert up.node not in self._posts, f"node {up.node} is up already"
        self._posts[up.node] = _Post()
        return self.resize(up)[0]

    def resize(self, event: NodeUp | Resized) -> tuple[list[Worker], list[Worker]]:
        """Workers join or leave until there is one per slot; they share the look-ahead as evenly as it goes.

        Returns the node's workers, and those that left. What these run goes on, in places of the node.
        """
        post = self._posts.get(event.node)
        if post is None:
            return [], []
        new = [Worker(0, event.node, slot, post) for slot in range(len(post.workers), event.slots)]
        for worker in new:
            worker.number = self._joined
            self._joined += 1
        left = post.workers[event.slots :]
        post.workers = post.workers[: event.slots] + new
        post.places = event.slots + event.look_ahead if event.slots else 0
        share, rest = divmod(event.look_ahead, max(event.slots, 1))
        for worker in post.workers:
            worker.places = 1 + share + (worker.slot < rest)
        self._staff(left, new)
        return post.workers, left

    def leave(self, node: int) -> list[Worker]:
        """Takes out the workers of a lost node and returns them; what they run ends without freeing anything."""
        post = self._posts.pop(node, None)
        lost = [] if post is None else post.workers
        self._staff(lost, [])
        return lost

    def _staff(self, left: list[Worker], new: list[Worker]) -> None:
        if left:
            gone = set(left)
            self.workers = [worker for worker in self.workers if worker not in gone]
            self.gather(left)
        self.workers += new

    def gather(self, workers: list[Worker]) -> None:
        """Puts what waits for these workers into the pool."""
        ranks = [rank for worker in workers for rank in worker.lane.drain()]
        if ranks:
            self.pool.refill(sorted(self.pool.drain() + ranks))

    def add(self, rank: int) -> Worker | None:
        """Gives a row that arrived to its owner, or to the pool (None); one in flight arrives when that has ended."""
        if row_of(rank) in self._running:
            self._returning[row_of(rank)] = rank
            return None
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
        while self.pool and (free := [worker for worker in self.workers if worker.has_place]):
            starting = (worker for worker in free[: len(self.pool)] if worker.has_place)
            actions.extend(self.start(worker, self.pool.pop_front()) for worker in starting)
        return actions

    def start(self, worker: Worker, row: int) -> Action:
        worker.busy += 1
        worker.post.busy += 1
        self._running[row] = worker
        return Dispatch(row, worker.node)

    def fill(self, worker: Worker) -> list[Action]:
        """Starts rows of the worker's own queue in its free places."""
        actions: list[Action] = []
        while worker.lane and worker.has_place:
            actions.append(self.start(worker, worker.lane.pop_front()))
        return actions

    def ended(self, row: int) -> Worker | None:
        """The worker that may start a row now: the one that had this row, or another on its node if that has left.

        None if the node is gone, or as full as before.
        """
        worker = self._running.pop(row, None)
        if worker is None or self._posts.get(worker.node) is not worker.post:
            return None
        worker.busy -= 1
        worker.post.busy -= 1
        here = worker.post.workers
        if worker.slot < len(here) and here[worker.slot] is worker and worker.has_place:
            return worker
        free = [one for one in here if one.has_place]
        return min(free, key=lambda one: (not one.lane, one.busy, one.number), default=None)

    def returning(self, row: int) -> int | None:
        """The rank of a row that arrived again before its attempt had ended, which arrives now."""
        return self._returning.pop(row, None)

    def _next_owner(self) -> Worker:
        turn, count = self._turn, len(self.workers)
        self._turn += 1
        if self._is_block and turn < self._deal:
            return self.workers[turn * count // self._deal]
        return self.workers[turn % count]

"""The queue of one worker: the owner takes the front, a thief the back, both in O(log n)."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from tokenmill.schedule.order import row_of


class Lane:
    """Waiting rows by rank (see `order`), about 40 bytes each; 110 once something was taken from the back.

    The back is a second heap, made by the first theft: most lanes are never robbed, or only when nearly empty. From
    then on each heap may hold entries that left by the other end, and `_alive` tells them apart.
    """

    __slots__ = ("_alive", "_back", "_front")

    def __init__(self) -> None:
        self._front: list[int] = []
        self._back: list[int] | None = None
        self._alive: set[int] = set()

    def __len__(self) -> int:
        return len(self._front) if self._back is None else len(self._alive)

    def push(self, rank: int) -> None:
        heappush(self._front, rank)
        if self._back is not None:
            heappush(self._back, -rank)
            self._alive.add(rank)

    def pop_front(self) -> int:
        """The row with the smallest rank; the caller knows that there is one."""
        if self._back is None:
            return row_of(heappop(self._front))
        while (rank := heappop(self._front)) not in self._alive:
            pass
        self._leave(rank)
        return row_of(rank)

    def pop_back(self) -> int:
        """The row with the greatest rank; the caller knows that there is one."""
        if self._back is None:
            self._back = [-rank for rank in self._front]
            heapify(self._back)
            self._alive = set(self._front)
        while (rank := -heappop(self._back)) not in self._alive:
            pass
        self._leave(rank)
        return row_of(rank)

    def drain(self) -> list[int]:
        """All ranks, smallest first; the lane is empty afterwards."""
        ranks = sorted(self._front if self._back is None else self._alive)
        self.refill([])
        return ranks

    def refill(self, ranks: list[int]) -> None:
        """Replaces the content by `ranks`, which are sorted (a sorted list is a heap)."""
        self._front = ranks
        self._back = None
        self._alive = set()

    def _leave(self, rank: int) -> None:
        self._alive.discard(rank)
        if not self._alive:
            self.refill([])

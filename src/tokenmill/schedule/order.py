"""Which waiting row is next: in the order of the file, or the longest first.

Rows are numbers below 2**32. A row that comes back after a failure keeps its place without being marked: its number
is lower, or its length greater, than what waits.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection
from heapq import heapify, heappop, heappush
from typing import Protocol

from msgspec import Struct

#: Lengths are compared in steps of 1/64 token, so that length and row fit in one 60-bit integer.
STEPS = 64
ROW_BITS = 32
ROW_MASK = (1 << ROW_BITS) - 1
MAX_LENGTH = float(1 << 21)


def rank_in_file(row: int, length: float) -> int:  # noqa: ARG001 - one signature for all ranks
    """The smaller rank goes first; `row_of` takes the row out again."""
    return row


def rank_by_length(row: int, length: float) -> int:
    """The longer row first, the earlier one among equals; lengths beyond 2**21 tokens count as equal."""
    return (-int(min(length, MAX_LENGTH) * STEPS) << ROW_BITS) + row


def row_of(rank: int) -> int:
    return rank & ROW_MASK


class Order(Protocol):
    """A queue of waiting rows; `ended` reports what a popped row really took, None if it gave no answer."""

    def __len__(self) -> int: ...
    def push(self, row: int, length: float, group: int) -> None: ...
    def pop(self, node: int = 0) -> int:
        """The next row for this node."""

    def head(self) -> float:
        """Where the next row of all stands: the smaller goes first, and it is minus a length where lengths rule."""

    def ended(self, row: int, tokens: int | None) -> None: ...
    def spread(self, slots: int, nodes: Collection[int] = ()) -> None:
        """So many rows run at the same time from now on, on these nodes."""


class FileOrder:
    """Rows by number, 4 bytes each: ascending arrivals in an array, the few that come back in a heap."""

    SLACK = 4096

    def __init__(self) -> None:
        self._rows = array("I")
        self._head = 0
        self._late: list[int] = []

    def __len__(self) -> int:
        return len(self._rows) - self._head + len(self._late)

    def push(self, row: int, length: float, group: int) -> None:  # noqa: ARG002 - the signature of an Order
        if self._head < len(self._rows) and row < self._rows[-1]:
            heappush(self._late, row)
        else:
            self._rows.append(row)

    def head(self) -> float:
        head = self._head
        rows = [self._rows[head]] if head < len(self._rows) else []
        return float(min(rows + self._late[:1]))

    def pop(self, node: int = 0) -> int:  # noqa: ARG002 - the signature of an Order
        head = self._head
        if self._late and (head == len(self._rows) or self._late[0] < self._rows[head]):
            return heappop(self._late)
        row = self._rows[head]
        self._head = head + 1
        if self._head > self.SLACK and self._head * 2 > len(self._rows):
            del self._rows[: self._head]
            self._head = 0
        return row

    def ended(self, row: int, tokens: int | None) -> None:
        """File order learns nothing."""

    def spread(self, slots: int, nodes: Collection[int] = ()) -> None:
        """Nor does it matter how many run at the same time."""


class _Group(Struct):
    """Rows of one template, longest first, and how long its answers really were."""

    heap: list[int]
    answered: int = 0
    predicted: float = 0.0
    actual: float = 0.0
    stamp: int = 0


class LongestFirst:
    """Rows by expected length, about 40 bytes each: one heap per group, and a heap of the groups' heads.

    What a group's answers really took, against what was predicted, scales the rest of that group. The scale leans
    on that of all groups as if `PRIOR` rows had been seen, so that a few early answers (the short ones end first)
    don't turn the order around, and a group without answers is judged by the others. A scale keeps the order
    within its group, so a correction moves one head, never a heap of rows: every operation is O(log n).
    """

    PRIOR = 4.0
    #: All heads are computed anew when the scale of all rows has moved by this factor since the last time.
    DRIFT = 1.1

    def __init__(self) -> None:
        self._groups: dict[int, _Group] = {}
        self._heads: list[tuple[float, int, int, int]] = []  # -expected tokens, row, group, stamp
        self._running: dict[int, tuple[int, float]] = {}  # row: group, predicted tokens
        self._all = _Group([])
        self._scale = 1.0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, row: int, length: float, group: int) -> None:
        here = self._groups.get(group)
        if here is None:
            here = self._groups[group] = _Group([])
        rank = rank_by_length(row, length)
        heappush(here.heap, rank)
        self._size += 1
        if here.heap[0] == rank:
            self._list(group, here)

    def head(self) -> float:
        """Minus the expected tokens of the longest."""
        while self._heads[0][3] != self._groups[self._heads[0][2]].stamp:
            heappop(self._heads)
        return self._heads[0][0] / STEPS

    def pop(self, node: int = 0) -> int:  # noqa: ARG002 - the signature of an Order
        """The row expected to be longest; the caller knows that there is one."""
        return self.take()[0]

    def take(self) -> tuple[int, float]:
        """The row expected to be longest, and its expected tokens."""
        while True:
            expected, row, group, stamp = heappop(self._heads)
            here = self._groups[group]
            if stamp == here.stamp:
                break
        rank = heappop(here.heap)
        self._running[row] = (group, -(rank >> ROW_BITS) / STEPS)
        self._size -= 1
        self._list(group, here)
        return row, -expected / STEPS

    def ended(self, row: int, tokens: int | None) -> None:
        group, predicted = self._running.pop(row, (0, 0.0))
        if tokens is None or predicted <= 0:
            return
        here = self._groups[group]
        for seen in (here, self._all):
            seen.answered += 1
            seen.predicted += predicted
            seen.actual += tokens
        if not 1 / self.DRIFT < self._all.actual / self._all.predicted / self._scale < self.DRIFT:
            self._scale = max(self._all.actual / self._all.predicted, 1e-6)
            self._list_all()
        else:
            self._list(group, here)

    def spread(self, slots: int, nodes: Collection[int] = ()) -> None:
        """The longest goes first, however many run at the same time."""

    def _factor(self, here: _Group) -> float:
        """Real tokens per predicted token."""
        if not here.answered:
            return self._scale
        lean = self.PRIOR * here.predicted / here.answered
        return (here.actual + lean * self._scale) / (here.predicted + lean)

    def _list(self, group: int, here: _Group) -> None:
        """Enters the group's present head; the stamp voids the earlier entry."""
        here.stamp += 1
        if here.heap:
            rank = here.heap[0]
            heappush(self._heads, ((rank >> ROW_BITS) * self._factor(here), row_of(rank), group, here.stamp))
            if len(self._heads) > 4 * len(self._groups) + 64:
                self._list_all()

    def _list_all(self) -> None:
        self._heads = [
            ((here.heap[0] >> ROW_BITS) * self._factor(here), row_of(here.heap[0]), group, here.stamp)
            for group, here in self._groups.items()
            if here.heap
        ]
        heapify(self._heads)

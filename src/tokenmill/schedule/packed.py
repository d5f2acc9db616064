"""The last rows in the order that fills the slots evenly, if the predicted lengths hold.

Longest first leaves a gap at the end: when rows are few and long, the last ones don't add up to what is left in each
slot. Packing looks at all that wait and finds the earliest moment by which everything fits: first fit decreasing into
one bin per slot, with bisection on the size of the bins (MULTIFIT: Coffman, Garey and Johnson, 1978). It is done anew
for every row that is sent, so an answer that was shorter or longer than predicted is taken into account.

Packing is worth it only for lengths that are really known. With errors of 10 % it does worse than longest first (42.2
against 41.3 on the sentences workload with 12 slots), because it keeps no short rows back for the end. So the answers
so far must have been as long as expected, but for one factor that is the same for all.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import heapreplace

from tokenmill.schedule.order import LongestFirst

#: Rows per slot from which on packing matters, and the most rows it is worth computing for.
ROWS_PER_SLOT, MOST_ROWS = 3, 100
BISECTIONS = 12
#: The greatest relative spread of what answers took against what was expected, and the answers needed to know it.
SPREAD, ANSWERS = 0.03, 3


class Packed:
    """Longest first, until the rows that wait are few; then as they fit best.

    Its clock counts tokens: all that run at the same time are taken to get on equally fast, so the end of one row
    tells how far the others are. What the answers took against what was expected scales all the rest.
    """

    def __init__(self) -> None:
        self._many = LongestFirst()
        self._few: list[tuple[float, int]] = []  # -expected tokens, row; the longest first
        self._running: dict[int, tuple[float, float]] = {}  # row: clock when it started, expected tokens
        self._clock = 0.0
        self._ratios = _Ratios()
        self._slots = 1

    def __len__(self) -> int:
        return len(self._many) + len(self._few)

    def push(self, row: int, length: float, group: int) -> None:
        self._many.push(row, length, group)

    def spread(self, slots: int, nodes: Collection[int] = ()) -> None:  # noqa: ARG002 - the signature of an Order
        self._slots = max(slots, 1)

    def head(self) -> float:
        """Minus the expected tokens of the longest, though packing may send another before it."""
        few = [self._few[0][0]] if self._few else []
        return min([*few, self._many.head()] if self._many else few)

    def pop(self, node: int = 0) -> int:  # noqa: ARG002 - the signature of an Order
        if len(self) > min(ROWS_PER_SLOT * self._slots, MOST_ROWS) and not self._few:
            row, expected = self._many.take()
        else:
            while self._many:
                found, expected = self._many.take()
                self._few.append((-expected, found))
            self._few.sort()
            expected, row = self._few.pop(self._choose())
            expected = -expected
        self._running[row] = (self._clock, expected)
        return row

    def ended(self, row: int, tokens: int | None) -> None:
        self._many.ended(row, tokens)
        started, expected = self._running.pop(row, (0.0, 0.0))
        if tokens is not None:
            self._clock = max(self._clock, started + tokens)
            self._ratios.add(tokens / expected if expected else 1.0)

    def _choose(self) -> int:
        """The number of the waiting row that goes to the slot that is free first."""
        if not self._ratios.are_equal:
            return 0
        loads = self._loads()
        lengths = [-expected * self._ratios.mean for expected, _ in self._few]
        low = max(loads[0], (sum(loads) + sum(lengths)) / len(loads), loads[-1] + lengths[0])
        high = max(low, loads[0] + sum(lengths))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            if _first_of_bin(loads, lengths, middle) is None:
                low = middle
            else:
                high = middle
        return _first_of_bin(loads, lengths, high) or 0

    def _loads(self) -> list[float]:
        """Tokens left in each slot, most first. Rows beyond the slots wait for the one that is free first."""
        scale, clock = self._ratios.mean, self._clock
        left = sorted(max(0.0, started + expected * scale - clock) for started, expected in self._running.values())
        loads = [0.0] * (self._slots - len(left)) + left[: self._slots]
        for waiting in left[self._slots :]:
            heapreplace(loads, loads[0] + waiting)
        return sorted(loads, reverse=True)


class _Ratios:
    """Tokens that answers took per expected token: their mean, and how much they differ."""

    def __init__(self) -> None:
        self.mean = 1.0
        self._count = 0
        self._squares = 0.0

    def add(self, ratio: float) -> None:
        self._count += 1
        away = ratio - self.mean if self._count > 1 else 0.0
        self.mean = self.mean + away / self._count if self._count > 1 else ratio
        self._squares += away * (ratio - self.mean)

    @property
    def are_equal(self) -> bool:
        return self._count >= ANSWERS and self._squares / self._count <= (SPREAD * self.mean) ** 2


def _first_of_bin(loads: list[float], lengths: list[float], size: float) -> int | None:
    """Which of the rows is the first to go into the last bin, or one like it; None if they don't fit.

    Both lists are sorted, the largest first. If nothing goes there, it is the longest row.
    """
    room = [size - load + 1e-6 for load in loads]
    free = loads.index(loads[-1])
    first = None
    for number, length in enumerate(lengths):
        place = next((place for place, left in enumerate(room) if left >= length), None)
        if place is None:
            return None
        room[place] -= length
        if place >= free and first is None:
            first = number
    return first or 0

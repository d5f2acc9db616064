"""Which waiting row is next for a node: one that begins like those the node has read before.

A server that keeps what it read of a long beginning (a system prompt) answers the next request with the same one
sooner. So rows are shelved by what they begin with, and a node has a home, the shelf it takes from:

- A node stays with its home while rows wait there, in the order that rules within each shelf.
- A node whose home is empty makes the shelf with most work left that is nobody's home its own. Without one it takes
  rows with no long beginning, which are warm everywhere. Last it steals: from then on it shares the home with most work
  left per node.
- A row that is as long as what is left for each place goes at once, wherever its home is: a cold beginning costs less
  than an end at which all others wait for that row. This needs an order that knows lengths.

With one node there is nothing to choose, and with one shelf nothing to keep apart: then the order rules as without
shelves. Work is measured in predicted tokens. A node that rests or is lost keeps its home, but counts as nobody's
meanwhile; if it comes back cold, that costs one more reading.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection
from heapq import heapify, heappop, heappush, heapreplace

from tokenmill.event import prefix_of
from tokenmill.schedule.order import MAX_LENGTH, Order

#: A smaller key goes first: a tier, and a figure within it.
_Key = tuple[int, float]


class _Shelf:
    """Waiting rows that begin alike; those of prefix 0 have no long beginning. `nodes` have it as their home."""

    __slots__ = ("nodes", "order", "prefix", "work")

    def __init__(self, prefix: int, order: Order) -> None:
        self.prefix = prefix
        self.order = order
        self.work = 0.0
        self.nodes = 0

    def claim(self) -> _Key:
        """For a node that has no home: those of nobody, those without a home, and those to share."""
        if self.prefix == 0:
            return 1, 0.0
        return (2, -self.work / self.nodes) if self.nodes else (0, -self.work)

    def head(self) -> _Key:
        """By the row that the order would give."""
        return 0, self.order.head()


class Prefixed:
    """An `Order` of orders, one for each beginning; about 4 bytes a row more than those, O(log n) a decision."""

    def __init__(self, make: Callable[[], Order]) -> None:
        self._make = make
        self._shelves: dict[int, _Shelf] = {}
        self._homes: dict[int, _Shelf] = {}
        self._nodes: frozenset[int] = frozenset()
        self._slots = 1
        self._running: dict[int, _Shelf] = {}
        self._lengths = array("f")
        self._size = 0
        self._work = self._predicted = self._actual = 0.0
        self._claims = _Least(_Shelf.claim)
        self._heads = _Least(_Shelf.head)

    def __len__(self) -> int:
        return self._size

    def push(self, row: int, length: float, group: int) -> None:
        prefix = prefix_of(group)
        shelf = self._shelves.get(prefix) or self._add(prefix)
        missing = row + 1 - len(self._lengths)
        if missing > 0:
            self._lengths.extend([0.0] * missing)
        self._lengths[row] = min(length, MAX_LENGTH)
        shelf.order.push(row, length, group)
        self._count(shelf, row, 1)
        self._changed(shelf)

    def pop(self, node: int = 0) -> int:
        """The next row for the node; the caller knows that there is one."""
        shelf = self._choose(node)
        row = shelf.order.pop(node)
        self._count(shelf, row, -1)
        self._running[row] = shelf
        home = self._homes.get(node)
        if shelf.prefix and (home is None or not home.order):
            self._settle(node, home, shelf)
        return row

    def head(self) -> float:
        return self._heads.first().order.head()

    def ended(self, row: int, tokens: int | None) -> None:
        shelf = self._running.pop(row, None)
        if shelf is None:
            return
        shelf.order.ended(row, tokens)
        self._heads.fell(shelf)
        if tokens is not None:
            self._predicted += self._lengths[row]
            self._actual += tokens

    def spread(self, slots: int, nodes: Collection[int] = ()) -> None:
        """Packing looks at all that wait and at all places, so it is only for rows that stand on one shelf."""
        self._slots = max(slots, 1)
        if len(self._shelves) == 1:
            for shelf in self._shelves.values():
                shelf.order.spread(slots, nodes)
        there = frozenset(nodes)
        for node in there ^ self._nodes:
            home = self._homes.get(node)
            if home is not None:
                home.nodes += 1 if node in there else -1
                self._claims.fell(home)
        self._nodes = there

    def _add(self, prefix: int) -> _Shelf:
        shelf = self._shelves[prefix] = _Shelf(prefix, self._make())
        slots = self._slots if len(self._shelves) == 1 else 1
        for each in list(self._shelves.values()) if len(self._shelves) <= 2 else [shelf]:
            each.order.spread(slots, self._nodes)
        return shelf

    def _choose(self, node: int) -> _Shelf:
        first = self._heads.first()
        if len(self._shelves) == 1 or len(self._nodes) < 2:
            return first
        home = self._homes.get(node)
        own = home if home is not None and home.order else None
        if -first.order.head() >= self._share and not (own and -own.order.head() >= self._share):
            return first
        return own or self._claims.first()

    @property
    def _share(self) -> float:
        """Tokens that wait for each place, by what answers took so far."""
        scale = self._actual / self._predicted if self._predicted and self._actual else 1.0
        return self._work * scale / self._slots

    def _count(self, shelf: _Shelf, row: int, sign: int) -> None:
        """Sums begin anew when they are empty, so that no rounding stays."""
        self._size += sign
        self._work = self._work + sign * self._lengths[row] if self._size else 0.0
        shelf.work = shelf.work + sign * self._lengths[row] if shelf.order else 0.0

    def _settle(self, node: int, old: _Shelf | None, new: _Shelf) -> None:
        self._homes[node] = new
        if node in self._nodes:
            new.nodes += 1
            self._claims.fell(new)
            if old is not None:
                old.nodes -= 1
                self._claims.fell(old)

    def _changed(self, shelf: _Shelf) -> None:
        self._claims.fell(shelf)
        self._heads.fell(shelf)


class _Least:
    """Finds the shelf with the smallest key in O(log shelves), amortised.

    The heap holds what a key was when last looked at. Keys that rose since are corrected when they reach the top;
    those that fell are entered anew by the next look. A shelf has one valid entry at most, and none while it is empty.
    """

    def __init__(self, key: Callable[[_Shelf], _Key]) -> None:
        self._key = key
        self._heap: list[tuple[_Key, int, _Shelf]] = []
        self._entered: dict[int, _Key] = {}
        self._fallen: dict[int, _Shelf] = {}

    def fell(self, shelf: _Shelf) -> None:
        """The key may be smaller than it was."""
        self._fallen[shelf.prefix] = shelf

    def first(self) -> _Shelf:
        """The caller knows that a row waits."""
        for shelf in self._fallen.values():
            self._enter(shelf)
        self._fallen.clear()
        while True:
            key, prefix, shelf = self._heap[0]
            if self._entered.get(prefix) != key or not shelf.order:
                heappop(self._heap)
                if not shelf.order:
                    self._entered.pop(prefix, None)
                continue
            now = self._key(shelf)
            if now == key:
                return shelf
            self._entered[prefix] = now
            heapreplace(self._heap, (now, prefix, shelf))

    def _enter(self, shelf: _Shelf) -> None:
        if not shelf.order:
            return
        key = self._key(shelf)
        if self._entered.get(shelf.prefix) != key:
            self._entered[shelf.prefix] = key
            heappush(self._heap, (key, shelf.prefix, shelf))
            if len(self._heap) > 4 * len(self._entered) + 64:
                self._heap = [entry for entry in self._heap if self._entered.get(entry[1]) == entry[0]]
                heapify(self._heap)

"""Rows that share a long beginning go to the node that has read it, as long as that doesn't delay the end."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule.stories import arrive, finished, play, resized, sent, up
from tokenmill.event import Arrived, NodeLost, group_of, prefix_of
from tokenmill.schedule import Strategy, make
from tokenmill.schedule.order import FileOrder, LongestFirst, Order
from tokenmill.schedule.packed import Packed
from tokenmill.schedule.prefix import Prefixed
from tokenmill.schedule.pull import Pull

A, B, C = group_of(1, 1), group_of(2, 1), group_of(3, 1)


def shelved(*rows: tuple[float, int], nodes: int = 2, make: Callable[[], Order] = LongestFirst) -> Prefixed:
    """Rows of these lengths and groups, in front of nodes with one slot each."""
    order = Prefixed(make)
    for row, (length, group) in enumerate(rows):
        order.push(row, length, group)
    order.spread(nodes, range(nodes))
    return order


def test_a_node_stays_with_the_rows_it_is_warm_for() -> None:
    """Each of two nodes has a beginning of its own, and takes its rows longest first."""
    order = shelved(*[(10, A), (10, B)] * 3, (12, A), (13, B))

    taken = [order.pop(node) for node in (0, 1) * 4]

    assert taken == [7, 6, 1, 0, 3, 2, 5, 4]


def test_a_node_without_work_takes_most_of_what_no_node_serves() -> None:
    """Of two beginnings that are nobody's it takes the one with more tokens to come, not with more rows."""
    order = shelved(*[(10, A)] * 9, *[(3, B)] * 5, *[(9, C)] * 2)

    assert [order.pop(0), order.pop(1)] == [0, 14]
    assert [order.pop(1), order.pop(1)] == [15, 9]


def test_a_thief_shares_where_most_work_is_left_per_node() -> None:
    """Work is divided by the nodes that serve it already; the thief then stays there."""
    order = shelved(*[(10, A)] * 21, *[(10, B)] * 13, nodes=4)

    assert [order.pop(node) for node in (0, 1)] == [0, 21]
    assert [order.pop(node) for node in (2, 3, 2)] == [1, 22, 2]


def test_rows_without_a_long_beginning_come_before_theft() -> None:
    """They are warm everywhere, so a node that would have to read a beginning anew takes them first."""
    order = shelved(*[(10, A)] * 8, *[(10, 0)] * 3)

    assert order.pop(0) == 0
    assert [order.pop(1) for _ in range(4)] == [8, 9, 10, 1]


def test_a_row_that_would_end_last_goes_at_once() -> None:
    """A row as long as what is left for each place isn't kept for later; the node then goes home again."""
    order = shelved(*[(10, A)] * 8, *[(9, B)] * 8, (160, 0))

    assert [order.pop(0), order.pop(0), order.pop(1)] == [16, 0, 8]


def test_a_home_is_kept_through_a_rest() -> None:
    """What a resting node served is taken up by others; when it comes back, it is at home there again."""
    order = shelved(*[(10, A)] * 20, *[(10, B)] * 12)
    assert [order.pop(0), order.pop(1)] == [0, 20]

    order.spread(2, [1, 2])
    assert order.pop(2) == 1
    order.spread(3, [0, 1, 2])
    assert [order.pop(0), order.pop(1), order.pop(2)] == [2, 21, 3]


@pytest.mark.parametrize("make", [FileOrder, LongestFirst, Packed])
def test_one_beginning_for_all_changes_nothing(make: Callable[[], Order]) -> None:
    """Where all rows begin alike, the order is exactly the one that rules without shelves."""
    lengths = Random(3).choices(range(1, 60), k=40)
    plain, order = make(), Prefixed(make)
    for row, length in enumerate(lengths):
        plain.push(row, length, 1)
        order.push(row, length, A)
    plain.spread(6)
    order.spread(6, [0, 1])

    for _ in range(len(plain)):
        row = plain.pop()
        assert order.pop(row % 2) == row
        plain.ended(row, 2 * lengths[row])
        order.ended(row, 2 * lengths[row])


@pytest.mark.parametrize(("make", "rows"), [(FileOrder, [0, 1, 2, 3, 4]), (LongestFirst, [3, 1, 2, 4, 0])])
def test_one_node_has_nothing_to_choose(make: Callable[[], Order], rows: list[int]) -> None:
    """With one node up, the order goes over all shelves."""
    order = shelved((1, A), (4, B), (3, A), (5, 0), (2, B), nodes=1, make=make)

    assert [order.pop(0) for _ in rows] == rows


def test_the_strategy_sends_rows_home() -> None:
    """Through `pull` each node gets the rows of its own beginning, also after it was lost and came back."""
    strategy = Pull(Prefixed(FileOrder))
    play(strategy, *arrive(*range(0, 20, 2), group=A), *arrive(*range(1, 20, 2), group=B))

    started = sent(strategy.on_event(up(0))) + sent(strategy.on_event(up(1)))
    assert started == [(0, 0), (1, 1)]
    assert sent(strategy.on_event(finished(1, 1))) == [(3, 1)]
    play(strategy, NodeLost(1.0, 1), resized(0, 2))
    assert sent(strategy.on_event(finished(0, 0))) == [(4, 0)]
    assert sent(strategy.on_event(up(1))) == [(5, 1)]


class Slow:
    """The rule of `Prefixed` as it is told, looking at every row each time; for orders of fixed lengths."""

    def __init__(self, by_length: bool, slots: int) -> None:
        self.by_length = by_length
        self.slots = slots
        self.rows: dict[int, tuple[float, int]] = {}
        self.homes: dict[int, int] = {}

    def pop(self, node: int) -> int:
        prefix = self._choose(node)
        row = min((row for row in self.rows if self.rows[row][1] == prefix), key=self._rank)
        if prefix and not self._holds(self.homes.get(node, 0)):
            self.homes[node] = prefix
        del self.rows[row]
        return row

    def _choose(self, node: int) -> int:
        home = self.homes.get(node, 0)
        share = sum(length for length, _ in self.rows.values()) / self.slots
        urgent = [row for row in self.rows if self.by_length and self.rows[row][0] >= share]
        first = self.rows[min(self.rows, key=self._rank)][1]
        at_home = self._holds(home)
        if urgent and not (at_home and any(self.rows[row][1] == home for row in urgent)):
            return self.rows[min(urgent, key=self._rank)][1]
        prefixes = {prefix for _, prefix in self.rows.values()}
        return first if len(prefixes) == 1 else home if at_home else min(prefixes, key=self._claim)

    def _holds(self, prefix: int) -> bool:
        return prefix > 0 and any(prefix == of for _, of in self.rows.values())

    def _rank(self, row: int) -> tuple[float, int, int]:
        length, prefix = self.rows[row]
        return (-length if self.by_length else row, prefix, row)

    def _claim(self, prefix: int) -> tuple[int, float, int]:
        work = sum(length for length, of in self.rows.values() if of == prefix)
        nodes = list(self.homes.values()).count(prefix)
        tier = 1 if prefix == 0 else 2 if nodes else 0
        return tier, 0.0 if prefix == 0 else -work / max(nodes, 1), prefix


steps = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 4)) | st.integers(0, 2), max_size=80)


@given(steps, st.booleans())
def test_decisions_are_those_of_the_plain_rule(steps: list[tuple[int, int] | int], by_length: bool) -> None:
    """Whatever arrives and whoever asks, the heaps find what looking at every row finds."""
    order, slow = Prefixed(LongestFirst if by_length else FileOrder), Slow(by_length, 3)
    order.spread(3, range(3))
    for row, step in enumerate(steps):
        if isinstance(step, tuple):
            length, prefix = step
            order.push(row, length, group_of(prefix, 1))
            slow.rows[row] = (length, prefix)
        elif slow.rows:
            assert order.pop(step) == slow.pop(step)
        assert len(order) == len(slow.rows)


class Counting(LongestFirst):
    """Counts how often any of its kind is looked at."""

    looks = 0

    def head(self) -> float:
        Counting.looks += 1
        return super().head()


def test_a_decision_looks_at_few_shelves() -> None:
    """With 1,000 beginnings a decision looks at a handful of them, on average."""
    random = Random(5)
    order = Prefixed(Counting)
    for row in range(10_000):
        order.push(row, random.randint(1, 500), group_of(random.randint(1, 1000), 1))
    order.spread(16, range(8))
    Counting.looks = 0
    for pop in range(10_000):
        order.pop(pop % 8)
        order.ended(pop, None)

    assert Counting.looks < 10 * 10_000


#: Seconds to read a beginning that a node doesn't hold, and for each token of an answer.
READING, TOKEN = 4.0, 0.02


def makespan(
    strategy: Strategy, rows: list[Arrived], nodes: int, slots: int, reading: float = READING
) -> tuple[float, int]:
    """When the last answer ends and how often a beginning was read, by nodes that hold the last one they read."""
    lengths = {row.row: (int(row.length), prefix_of(row.group)) for row in rows}
    held: dict[int, int] = {}
    ends: list[tuple[float, int, int]] = []
    readings, now = 0, 0.0
    sends = [pair for actions in play(strategy, *rows) for pair in sent(actions)]
    for node in range(nodes):
        sends += sent(strategy.on_event(up(node, slots)))
    while sends or ends:
        for row, node in sends:
            tokens, prefix = lengths[row]
            is_cold = prefix > 0 and held.get(node) != prefix
            readings += is_cold
            held[node] = prefix or held.get(node, 0)
            heappush(ends, (now + tokens * TOKEN + is_cold * reading, row, node))
        now, row, node = heappop(ends)
        sends = sent(strategy.on_event(finished(row, node, time=now, tokens=lengths[row][0])))
    return now, readings


@pytest.mark.parametrize("seed", range(5))
def test_warm_nodes_save_most_of_the_reading(seed: int) -> None:
    """With 12 beginnings on 4 nodes that each hold one, rows end in about half the time of longest first."""
    random = Random(seed)
    rows = [Arrived(0.0, row, float(random.randint(20, 300)), group_of(random.randint(1, 12), 1)) for row in range(400)]

    plain, cold = makespan(make("pull", "longest-first"), rows, nodes=4, slots=2)
    warm, read = makespan(make("prefix"), rows, nodes=4, slots=2)

    work = sum(row.length for row in rows) * TOKEN
    assert cold > 300
    assert read <= 12 + 3 * 4
    assert warm < 0.55 * plain
    assert warm < 1.1 * (work + 12 * READING) / 8


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_where_reading_costs_nothing(seed: int) -> None:
    """Where reading takes no time, very unequal rows on shelves end within 2 % of longest first."""
    random = Random(seed)
    lengths = [int(2000 / random.randint(1, 100)) for _ in range(200)]
    rows = [Arrived(0.0, row, float(length), group_of(row % 7, 1)) for row, length in enumerate(lengths)]

    plain, _ = makespan(make("pull", "longest-first"), rows, nodes=3, slots=2, reading=0.0)
    shelved, _ = makespan(make("prefix"), rows, nodes=3, slots=2, reading=0.0)

    assert shelved <= 1.02 * plain

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schedule.stories import SENTENCES, numbered
from tokenmill.schedule.order import LongestFirst
from tokenmill.schedule.packed import Packed
from tokenmill.schedule.pull import Pull
from tokenmill.schedule.simulate import SimNode, SimRow, simulate


def makespan(order: LongestFirst | Packed, rows: list[SimRow], slots: int) -> float:
    return simulate(Pull(order), rows, [SimNode(slots=slots)]).makespan


def test_the_sentences_fill_twelve_slots() -> None:
    """Packed, the 30 rows take 39, and longest first 43; their sum over 12 is 38.75."""
    rows = numbered(SENTENCES)

    assert (makespan(Packed(), rows, 12), makespan(LongestFirst(), rows, 12)) == (39, 43)


def test_a_common_factor_is_learned() -> None:
    """Predictions in another unit than tokens do as well, once three answers have told the factor."""
    rows = [SimRow(row=row, tokens=25 * count, length=22.0 * count) for row, count in enumerate(SENTENCES)]

    assert makespan(Packed(), rows, 12) == 25 * 39


def test_lengths_that_are_not_known_are_not_packed() -> None:
    """When answers differ from what was expected, the longest goes first to the end."""
    rows = [
        SimRow(row=row, tokens=count * (2 + row * 7 % 4), length=float(count)) for row, count in enumerate(SENTENCES)
    ]
    ends = [
        [(one.row, one.dispatched) for one in simulate(Pull(order), rows, [SimNode(slots=12)]).attempts]
        for order in (Packed(), LongestFirst())
    ]

    assert ends[0] == ends[1]


def test_many_rows_begin_with_the_longest() -> None:
    """While rows are many they aren't packed, which would take time and bring nothing."""
    order = Packed()
    order.spread(2)
    for row in range(50):
        order.push(row, float(row + 1), 0)

    assert [order.pop() for _ in range(44)] == list(range(49, 5, -1))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 8))
def test_known_lengths_are_packed_within_a_fifth(lengths: list[int], slots: int) -> None:
    """Every row is answered, and the makespan is at most 4/3 of the bound, as that of longest first is."""
    took = makespan(Packed(), numbered(lengths), slots)

    pairs = sorted(lengths, reverse=True)[slots - 1 : slots + 1]
    bound = max(max(lengths), sum(lengths) / slots, sum(pairs) if len(pairs) == 2 else 0)
    assert took <= 4 / 3 * bound + 1e-6

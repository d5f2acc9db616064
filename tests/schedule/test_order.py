from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.schedule.order import FileOrder, LongestFirst, Order


def drain(order: Order) -> list[int]:
    return [order.pop() for _ in range(len(order))]


@given(st.lists(st.integers(0, 200), unique=True), st.lists(st.booleans(), max_size=400))
def test_file_order_pops_the_lowest_row(rows: list[int], pops: list[bool]) -> None:
    """Whatever the order of arrival, the lowest waiting row is next."""
    order, model = FileOrder(), []
    turns = iter(pops)
    for row in rows:
        order.push(row, 1.0, 0)
        model.append(row)
        if next(turns, False):
            model.sort()
            assert order.pop() == model.pop(0)
        assert len(order) == len(model)
    assert drain(order) == sorted(model)


def test_file_order_gives_back_what_it_has_read() -> None:
    """A queue that is filled and emptied in step doesn't grow."""
    order = FileOrder()
    for row in range(100_000):
        order.push(row, 1.0, 0)
        if row >= 10:
            assert order.pop() == row - 10

    assert len(order._rows) < 4 * FileOrder.SLACK


def test_longest_first_prefers_length_then_row() -> None:
    """The longest row is next, across groups; the earlier one among equals."""
    order = LongestFirst()
    for row, length, group in [(0, 5.0, 0), (1, 9.0, 1), (2, 9.0, 0), (3, 1.0, 2), (4, 9.5, 2)]:
        order.push(row, length, group)

    assert drain(order) == [4, 1, 2, 0, 3]


@given(st.lists(st.tuples(st.integers(0, 6400), st.integers(0, 3))))
def test_longest_first_sorts_whatever_comes(rows: list[tuple[int, int]]) -> None:
    """Without answers, the order is by predicted length, then row; lengths count in steps of 1/64."""
    order = LongestFirst()
    for row, (length, group) in enumerate(rows):
        order.push(row, length / 64, group)

    assert drain(order) == sorted(range(len(rows)), key=lambda row: (-rows[row][0], row))


def test_longer_answers_than_predicted_move_their_group_ahead() -> None:
    """A group whose answers take four times the prediction overtakes one that is predicted longer."""
    order = LongestFirst()
    for row in range(20):
        order.push(row, 100.0, group=0)
        order.push(100 + row, 60.0, group=1)
    for row in [order.pop() for _ in range(10)]:
        order.ended(row, 100)
    order.push(200, 150.0, group=1)
    for _ in range(3):
        order.push(201, 1000.0, group=1)
        order.ended(order.pop(), 4000)

    assert order.pop() == 200
    assert order.pop() == 100


def test_a_group_without_answers_is_judged_by_the_others() -> None:
    """When all answers take a tenth of the prediction, an unseen group isn't taken for long."""
    order = LongestFirst()
    for row in range(50):
        order.push(row, 100.0, group=0)
    for row in [order.pop() for _ in range(40)]:
        order.ended(row, 10)
    order.push(50, 95.0, group=1)

    assert order.pop() == 40


def with_known_scale(scale: int) -> LongestFirst:
    """An order that has seen twenty rows of group 0 take `scale` times their prediction."""
    order = LongestFirst()
    for row in range(20):
        order.push(row, 1000.0, group=0)
    for row in [order.pop() for _ in range(20)]:
        order.ended(row, 1000 * scale)
    return order


def test_one_early_answer_does_not_turn_the_order_around() -> None:
    """A single short answer in a group only nudges its scale."""
    order = with_known_scale(1)
    for row in (30, 31):
        order.push(row, 100.0, group=1)
    order.push(40, 50.0, group=2)
    order.ended(order.pop(), 10)

    assert order.pop() == 31


def test_a_group_with_few_answers_leans_on_the_scale_of_all() -> None:
    """One answer as far off as everybody's doesn't put its group behind those without answers."""
    order = with_known_scale(10)
    for row in (30, 31):
        order.push(row, 100.0, group=1)
    order.push(40, 50.0, group=2)
    order.ended(order.pop(), 1000)

    assert order.pop() == 31


def test_failures_teach_nothing() -> None:
    """A row that gave no answer leaves the scale of its group alone."""
    order = LongestFirst()
    for row in range(9):
        order.push(row, 100.0, group=0)
    for _ in range(8):
        order.ended(order.pop(), None)
    order.push(20, 99.0, group=1)

    assert order.pop() == 8


def test_heads_stay_few_whatever_happens() -> None:
    """The heap of heads is bounded by the number of groups, not by the number of rows or answers."""
    order, draw = LongestFirst(), random.Random(3)
    for row in range(5_000):
        order.push(row, draw.uniform(1, 1000), row % 5)
    for _ in range(5_000):
        order.ended(order.pop(), draw.randrange(1, 5000))

    assert len(order._heads) <= 4 * 5 + 65
    assert not order._running


@pytest.mark.parametrize(("build", "limit"), [(FileOrder, 6), (LongestFirst, 44)])
def test_bytes_per_row(build: Callable[[], Order], limit: int) -> None:
    """A waiting row costs a few bytes, not an object of its own."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    order = build()
    for row in range(50_000):
        order.push(row, float(row % 700), row % 3)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert used / 50_000 <= limit

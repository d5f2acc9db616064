"""Whole runs under failure policy, in the simulator."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest

from schedule.stories import arrive, numbered
from schedule.supervising import supervised
from tokenmill.schedule import ORDERS, STRATEGIES, make
from tokenmill.schedule.simulate import Faults, Mishap, Outage, SimNode, simulate


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_poison_row_among_32_costs_exactly_one_row(strategy: str, order: str) -> None:
    """All others are answered, the poison row is set aside, and the process died four times at most."""
    result = simulate(make(strategy, order), numbered([8] * 96), [SimNode(slots=32)], Faults(poison=frozenset({13})))

    crashes = {attempt.finished for attempt in result.attempts if attempt.kind == "crash"}
    assert result.unfinished == 0
    assert {row: action.kind for row, action in result.set_aside.items()} == {13: "poison"}
    assert len(crashes) <= 4


def test_sequential_stays_sequential_through_a_crash() -> None:
    """With two nodes and a poison row, still no two rows are in flight at the same time."""
    result = simulate(make("sequential"), numbered([4] * 9), [SimNode(), SimNode()], Faults(poison=frozenset({2})))

    spans = sorted((attempt.dispatched, attempt.finished) for attempt in result.attempts)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert list(result.set_aside) == [2]


def test_a_storm_ends_within_one_back_off() -> None:
    """After an outage of the only node, every row is answered soon: nothing waits beyond the cap."""
    faults = Faults(outages=[Outage(node=0, down=5.0, up=600.0)])

    result = simulate(make(), numbered([10] * 100), [SimNode(slots=10)], faults)

    assert result.set_aside == {}
    assert result.makespan <= 600 + 60 + 100


def test_a_row_that_fails_now_and_then_is_answered() -> None:
    """Two failures of different kinds are within the attempts of a row, on any node."""
    mishaps = [Mishap(row=3, kind="timeout", late=4.0), Mishap(row=3, kind="transient", lease=2)]

    result = simulate(make(), numbered([5] * 10), [SimNode(), SimNode()], Faults(mishaps=mishaps))

    outcomes = [attempt.outcome for attempt in result.attempts if attempt.row == 3]
    assert outcomes == ["failed", "failed", "answered"]


def test_bytes_per_row() -> None:
    """Supervision costs eight bytes a row, and nothing is kept of rows that are final."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    strategy = supervised()
    for row in range(50_000):
        strategy.on_event(arrive(row)[0])
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert used / 50_000 <= 15

"""The sentences workload on a server that scales perfectly has known speedups."""

from __future__ import annotations

import pytest

from schedule.stories import SENTENCES, numbered
from tokenmill.schedule import make
from tokenmill.schedule.simulate import SimNode, simulate

WORKERS = [2, 4, 6, 8, 12]


def speedups(strategy: str, order: str, *, one_node: bool) -> list[float]:
    rows = numbered(SENTENCES)
    base = simulate(make("sequential", order), rows, [SimNode()]).makespan
    fleets = [[SimNode(slots=workers)] if one_node else [SimNode()] * workers for workers in WORKERS]
    return [round(base / simulate(make(strategy, order), rows, nodes).makespan, 2) for nodes in fleets]


def test_the_workload_is_the_published_one() -> None:
    """Each number of sentences from 1 to 30 is asked for once."""
    assert sorted(SENTENCES) == list(range(1, 31))


@pytest.mark.parametrize("one_node", [True, False], ids=["slots of one node", "nodes of one slot"])
@pytest.mark.parametrize(
    ("strategy", "order", "expected"),
    [
        ("static", "file", [2.00, 2.36, 5.41, 4.65, 5.89]),
        ("pull", "file", [1.95, 3.60, 5.05, 6.28, 8.30]),
        ("pull", "longest-first", [2.00, 3.97, 5.81, 7.88, 10.81]),
        ("sequential", "longest-first", [1.00, 1.00, 1.00, 1.00, 1.00]),
    ],
)
def test_ideal_speedups(strategy: str, order: str, expected: list[float], one_node: bool) -> None:
    """Simulated speedups over sequential equal the ideal ones, to two decimals."""
    assert speedups(strategy, order, one_node=one_node) == expected


def test_stealing_beats_the_deal_it_starts_from() -> None:
    """Stealing is never slower than static round robin on this workload, and faster where the deal is uneven."""
    stolen, dealt = speedups("stealing", "file", one_node=True), speedups("static", "file", one_node=True)

    assert all(mine >= theirs for mine, theirs in zip(stolen, dealt, strict=True))
    assert stolen[1] > 1.5 * dealt[1]

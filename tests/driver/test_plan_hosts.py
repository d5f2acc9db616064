"""Thousands of simulated nodes, driven by the strategy of a run."""

from __future__ import annotations

import tracemalloc

import pytest

from tokenmill.driver.options import Settings
from tokenmill.driver.plan_hosts import MOST_NODES, Crowd, Losses, play_crowd
from tokenmill.errors import UsageError
from tokenmill.schedule import make
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.simulate import SimNode, SimRow, simulate

LENGTHS = [300, 290, 100, 70, 260, 10, 30]
PULL = Settings(strategy="pull")


def crowd(nodes: int, rows: int, losses: Losses | None = None, *kinds: SimNode, settings: Settings = PULL) -> Crowd:
    return play_crowd(settings, kinds or [SimNode(speed=50.0)], nodes, LENGTHS, rows, losses or Losses(), seed=0)


def test_a_crowd_is_near_its_bound() -> None:
    """With hundreds of rows a node, the makespan is within 1.02 times the bound, and every row is answered once."""
    played = crowd(60, 12_000)

    assert played.ratio <= 1.02
    assert (played.unfinished, played.attempts, played.vain) == (0, 12_000, 0)


def test_it_costs_two_events_a_request() -> None:
    """The strategy hears of each row twice, and once of each node: nobody is told of progress that nobody heeds."""
    played = crowd(100, 5_000)

    assert played.events == 2 * 5_000 + 100


def test_a_row_takes_little_memory() -> None:
    """A further row takes under 60 bytes at the peak, simulation and strategy together."""
    peaks = []
    for rows in (5_000, 15_000):
        tracemalloc.start()
        crowd(20, rows)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert (peaks[1] - peaks[0]) / 10_000 < 60


def test_it_is_the_same_run_as_with_all_attempts_kept() -> None:
    """Leaving out what nobody reads changes no dispatch, where no two moments are equal: the makespan is the same."""
    rows = [SimRow(row=row, tokens=LENGTHS[row % len(LENGTHS)]) for row in range(900)]
    nodes = [SimNode(speed=40 * 1.0137**i, slots=1 + i % 3, curve=Curve(serial=0.1)) for i in range(10)]
    whole = simulate(make(), rows, nodes)
    lean = crowd(10, 900, None, *nodes)

    assert lean.makespan == pytest.approx(whole.makespan, rel=1e-9)
    assert lean.attempts == len(whole.attempts)


def test_a_strategy_that_heeds_progress_gets_it() -> None:
    """Strategy `auto`, which finds out how much a node takes, is told of first tokens and paces here too."""
    auto = crowd(10, 500, settings=Settings(strategy="auto"))

    assert auto.events > 3 * 500
    assert auto.unfinished == 0


def test_unequal_nodes_share_by_their_pace() -> None:
    """Nodes of two kinds take turns, and pulling keeps both busy to the end."""
    played = crowd(100, 30_000, None, SimNode(speed=30.0), SimNode(speed=90.0))

    assert played.bound == pytest.approx(played.output_tokens / (50 * 30 + 50 * 90))
    assert played.ratio <= 1.06


@pytest.mark.parametrize("back", [20.0, None])
def test_lost_nodes_cost_only_what_ran_there(back: float | None) -> None:
    """Every row is answered though a tenth of the nodes is lost.

    What was tried in vain is what was in flight there, and what was sent before the loss was known.
    """
    played = crowd(100, 20_000, Losses(share=0.1, back=back), SimNode(speed=50.0, slots=2))

    assert (played.lost, played.unfinished) == (10, 0)
    assert 1 <= played.vain <= 2 * 10 * 2
    assert played.attempts == 20_000 + played.vain


def test_a_node_counts_while_it_is_up() -> None:
    """The bound of a run that loses nodes for good is later than without, and not later than the run."""
    calm, stormy = crowd(50, 5_000), crowd(50, 5_000, Losses(share=0.4))

    assert calm.bound < stormy.bound <= stormy.makespan


@pytest.mark.parametrize(
    ("nodes", "rows", "share", "text"),
    [
        (0, 10, 0.0, "0 nodes: from 1 to 10000 can be simulated"),
        (MOST_NODES + 1, 10, 0.0, "10001 nodes: from 1 to 10000"),
        (1, 10_000_001, 0.0, "10000001 rows: from 1 to 10000000"),
        (5, 10, 1.0, "losses of 100 %"),
    ],
)
def test_what_cannot_be_simulated_is_refused(nodes: int, rows: int, share: float, text: str) -> None:
    """Too many nodes or rows, none, or the loss of all is told before anything is played."""
    with pytest.raises(UsageError, match=text):
        crowd(nodes, rows, Losses(share=share))

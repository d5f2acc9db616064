"""`auto`, which knows nothing of the server, against the best of everything that could have been chosen by hand."""

from __future__ import annotations

from statistics import fmean

import pytest

from schedule.sweep import CURVES, MOST, bound, in_flight_over_time, play_on, sentences, sweep
from tokenmill.schedule.curve import Curve

over_curves = pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES.keys())


@over_curves
def test_auto_is_near_the_bound_and_the_best(curve: Curve) -> None:
    """On every kind of server auto takes at most 1.12 of the bound, and 1.03 of the best choice by hand."""
    rows = sentences()
    best = min(cell.makespan for cell in sweep(curve, rows))

    auto = play_on(curve, "auto", None, MOST, rows).makespan

    assert auto <= 1.12 * bound(curve, rows)
    assert auto <= 1.03 * best


@pytest.mark.parametrize("curve", [CURVES["4 slots"], CURVES["12 slots"], CURVES["knee at 7"]])
def test_auto_is_near_the_best_expected_makespan(curve: Curve) -> None:
    """With answers a tenth longer or shorter than the prompt says, at random, the same holds for the mean."""
    draws = [sentences(spread=0.1, seed=seed) for seed in range(12)]
    tables = [sweep(curve, rows) for rows in draws]
    best = min(fmean(cell.makespan for cell in cells) for cells in zip(*tables, strict=True))

    assert fmean(play_on(curve, "auto", None, MOST, rows).makespan for rows in draws) <= 1.03 * best


@pytest.mark.parametrize("ceiling", [MOST, 32])
@pytest.mark.parametrize("slots", [1, 2, 4, 12])
def test_auto_queues_one_request_at_most(slots: int, ceiling: int) -> None:
    """Whatever the user allows, never more than one request waits inside a server with hard slots."""
    result = play_on(Curve(slots=slots), "auto", None, ceiling, sentences())

    most = max(level for _, level in in_flight_over_time(result))
    assert most == min(slots + 1, ceiling)


def test_packing_known_lengths() -> None:
    """Rows packed by their known lengths take 39 sentences on 12 slots, where the bound is 38.75."""
    rows = sentences()

    packed = play_on(Curve(slots=12), "pull", "packed", 12, rows).makespan

    assert bound(Curve(slots=12), rows) == 38.75
    assert packed <= 39 + 5 * 0.1 + 1e-9  # each slot spends a tenth on each of its rows
    assert packed < 0.92 * play_on(Curve(slots=12), "pull", "longest-first", 12, rows).makespan

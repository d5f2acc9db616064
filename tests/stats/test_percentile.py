"""Percentiles of repeated runs, by resampling whole runs."""

from __future__ import annotations

from math import exp, hypot
from random import Random

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.stats.percentile import percentile, percentile_of_runs


def runs_of(random: Random, runs: int, requests: int, between: float, within: float) -> list[list[float]]:
    """Requests whose logarithms spread `within` a run, around a level that spreads `between` the runs."""
    levels = [random.gauss(0.0, between) for _ in range(runs)]
    return [[exp(level + random.gauss(0.0, within)) for _ in range(requests)] for level in levels]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_a_percentile_lies_between_the_nearest_ranks(values: list[float], share: float) -> None:
    """Linear between ranks, as numpy does it."""
    assert percentile(sorted(values), share) == pytest.approx(numpy.quantile(values, share), rel=1e-9, abs=1e-6)


def test_known_percentiles() -> None:
    """Five runs that hold 1 to 500 between them have the percentiles of 1 to 500."""
    runs = [[float(number) for number in range(start, 501, 5)] for start in range(1, 6)]

    assert percentile_of_runs(runs, 0.5, "s").value == pytest.approx(250.5)
    assert percentile_of_runs(runs, 0.99, "s").value == pytest.approx(495.01)


def test_equal_runs_have_an_interval_without_width() -> None:
    """However wide the requests of a run spread, runs that repeat each other leave no doubt."""
    one = [float(number) for number in range(100)]

    found = percentile_of_runs([one] * 6, 0.5, "s")

    assert found.low == found.value == found.high == pytest.approx(49.5)


def test_runs_are_resampled_and_not_their_requests() -> None:
    """Runs at two levels give an interval from one level to the other, which resampled requests would not."""
    runs = [[1.0] * 200, [1.0] * 200, [1.0] * 200, [9.0] * 200, [9.0] * 200, [9.0] * 200]

    found = percentile_of_runs(runs, 0.5, "s")

    assert (found.low, found.high) == (1.0, 9.0)


def test_most_intervals_hold_the_true_percentile() -> None:
    """With ten runs that differ, at least 82 of 100 intervals of the median hold it."""
    random, held = Random(4), 0
    for trial in range(100):
        found = percentile_of_runs(runs_of(random, 10, 40, 0.1, 0.3), 0.5, "s", seed=trial)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1.0 <= found.high

    assert held >= 82


def test_the_value_nears_the_true_percentile() -> None:
    """Many runs of many requests come near the percentile that they were drawn from."""
    found = percentile_of_runs(runs_of(Random(6), 60, 250, 0.1, 0.3), 0.95, "s")

    assert found.value == pytest.approx(exp(1.6449 * hypot(0.1, 0.3)), rel=0.05)


def test_a_seed_gives_one_interval() -> None:
    """The same runs and seed give the same interval."""
    runs = runs_of(Random(8), 8, 50, 0.2, 0.2)

    assert percentile_of_runs(runs, 0.9, "s", seed=3) == percentile_of_runs(runs, 0.9, "s", seed=3)


def test_p99_needs_300_requests() -> None:
    """The 99th percentile of fewer than 300 requests is n/a, and further out it takes more."""
    few, enough = [[1.0] * 59] * 5, [[1.0] * 60] * 5

    assert percentile_of_runs(few, 0.99, "s").reason == "p99 needs 300 requests, there are 295"
    assert percentile_of_runs(few, 0.95, "s").value == 1.0
    assert percentile_of_runs(enough, 0.99, "s").value == 1.0
    assert percentile_of_runs(enough, 0.999, "s").reason == "p99.9 needs 3000 requests, there are 300"


def test_few_runs_have_a_value_and_no_interval() -> None:
    """Under five runs the percentile stands alone, with the reason."""
    found = percentile_of_runs([[1.0, 2.0, 3.0]] * 4, 0.5, "s")

    assert (found.value, found.low) == (2.0, None)
    assert found.reason == "an interval needs 5 runs to resample, there are 4"


def test_runs_without_requests() -> None:
    """No requests, or a run without any, give n/a; a share outside 0 to 1 is a mistake."""
    assert percentile_of_runs([], 0.5, "s").measure.reason == "nothing was measured"
    assert percentile_of_runs([[1.0], [], [2.0]], 0.5, "s").reason == "run 2 has no request"
    with pytest.raises(ValueError, match="not at 1"):
        percentile_of_runs([[1.0]], 1.0, "s")

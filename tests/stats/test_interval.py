"""Intervals of ratios, on data with known answers."""

from __future__ import annotations

from math import exp, log
from random import Random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stats.noise import repeats
from tokenmill.stats.interval import Interval, geometric_mean, paired_ratio, unpaired_ratio
from tokenmill.stats.student import T_95, quantile, t_95

POSITIVE = st.floats(1e-3, 1e6)
PAIRS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=12)


def ends(interval: Interval) -> tuple[float, float, float]:
    assert interval.value is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.value, interval.high


@pytest.mark.parametrize("count", [5, 20])
def test_coverage_of_paired_ratios(count: int) -> None:
    """Of 5,000 intervals of 95 %, 93 to 97 % hold the true ratio."""
    random, held = Random(count), 0
    for _ in range(5000):
        pace = random.uniform(1.0, 3.0)  # what both sides of a set of pairs share
        low, _, high = ends(paired_ratio(repeats(random, 1.04 * pace, count), repeats(random, pace, count)))
        held += low <= 1.04 <= high

    assert 0.93 <= held / 5000 <= 0.97


def test_coverage_of_unpaired_ratios_with_unequal_spread() -> None:
    """Of 5,000 intervals of two sets that differ in size and spread, 93 to 97 % hold the true ratio."""
    random, held = Random(7), 0
    for _ in range(5000):
        low, _, high = ends(unpaired_ratio(repeats(random, 0.9, 6, 0.05), repeats(random, 1.0, 15, 0.01)))
        held += low <= 0.9 <= high

    assert 0.93 <= held / 5000 <= 0.97


def test_coverage_of_means() -> None:
    """Of 5,000 intervals of one set of repeats, 93 to 97 % hold the true value."""
    random, held = Random(11), 0
    for _ in range(5000):
        low, _, high = ends(geometric_mean(repeats(random, 12.0, 5, 0.1), "s"))
        held += low <= 12.0 <= high

    assert 0.93 <= held / 5000 <= 0.97


def test_pairs_that_share_a_disturbance_are_told_apart_better() -> None:
    """What both sides of a pair suffer alike falls out of the paired interval and widens the unpaired one."""
    random = Random(3)
    moments = [random.uniform(0.8, 1.2) for _ in range(8)]
    old = [moment * value for moment, value in zip(moments, repeats(random, 10.0, 8, 0.005), strict=True)]
    new = [moment * value for moment, value in zip(moments, repeats(random, 9.8, 8, 0.005), strict=True)]

    paired, unpaired = ends(paired_ratio(old, new)), ends(unpaired_ratio(old, new))

    assert paired[1] == pytest.approx(unpaired[1])
    assert paired[0] > 1
    assert unpaired[0] < 1 < unpaired[2]


@given(PAIRS)
def test_paired_ratio_is_students_t_on_logarithms(pairs: list[tuple[float, float]]) -> None:
    """The paired interval is the one-sample t interval of scipy, taken of logarithms of ratios."""
    logs = [log(this) - log(that) for this, that in pairs]

    low, value, high = ends(paired_ratio([this for this, _ in pairs], [that for _, that in pairs]))

    assert value == pytest.approx(exp(fmean(logs)))
    error = stats.sem(logs) if len(set(logs)) > 1 else 0.0
    if error > 1e-9:
        expected = stats.t.interval(0.95, len(logs) - 1, loc=fmean(logs), scale=error)
        assert (log(low), log(high)) == pytest.approx(tuple(expected), rel=1e-6, abs=1e-6)


def test_unpaired_ratio_is_welchs_t_on_logarithms() -> None:
    """The unpaired interval is that of scipy's Welch test, taken of logarithms."""
    random = Random(5)
    these, those = repeats(random, 3.0, 7, 0.3), repeats(random, 2.0, 12, 0.1)
    test = stats.ttest_ind([log(value) for value in these], [log(value) for value in those], equal_var=False)
    expected = test.confidence_interval(0.9)

    low, _, high = ends(unpaired_ratio(these, those, level=0.9))

    assert (log(low), log(high)) == pytest.approx((expected.low, expected.high), rel=1e-4)


@given(PAIRS, st.floats(1e-3, 1e3))
def test_a_change_of_unit_changes_no_ratio(pairs: list[tuple[float, float]], unit: float) -> None:
    """Both sides in another unit give the same interval, paired or not."""
    these, those = [this for this, _ in pairs], [that for _, that in pairs]
    for ratio in (paired_ratio, unpaired_ratio):
        scaled = ratio([unit * this for this in these], [unit * that for that in those])
        low, value, high = ends(ratio(these, those))
        assert [log(end) for end in ends(scaled)] == pytest.approx(
            [log(low), log(value), log(high)], rel=1e-3, abs=1e-6
        )


@given(PAIRS)
def test_swapped_sides_give_the_reciprocal(pairs: list[tuple[float, float]]) -> None:
    """The interval of the swapped ratio is the reciprocal one."""
    these, those = [this for this, _ in pairs], [that for _, that in pairs]
    for ratio in (paired_ratio, unpaired_ratio):
        low, value, high = ends(ratio(these, those))
        logs = [log(end) for end in ends(ratio(those, these))]
        assert logs == pytest.approx([-log(high), -log(value), -log(low)], rel=1e-6, abs=1e-9)


def test_one_repeat_has_a_value_and_no_interval() -> None:
    """One pair, or one repeat of a side, gives the ratio and says what an interval would need."""
    one, few = paired_ratio([2.0], [1.0]), unpaired_ratio([2.0, 2.0], [1.0])

    assert (one.value, one.low, one.reason) == (pytest.approx(2.0), None, "an interval needs 2 pairs, there is 1")
    assert (few.value, few.high, few.reason) == (pytest.approx(2.0), None, "an interval needs 2 repeats, there is 1")
    assert few.repeats == "2 and 1 repeats"


def test_equal_repeats_have_an_interval_without_width() -> None:
    """Virtual time repeats itself exactly; its interval is a point."""
    assert ends(paired_ratio([3.0] * 5, [2.0] * 5)) == pytest.approx((1.5, 1.5, 1.5))
    assert ends(unpaired_ratio([3.0] * 5, [2.0] * 4)) == pytest.approx((1.5, 1.5, 1.5))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_value_without_a_ratio(value: float) -> None:
    """A repeat that isn't above zero, or isn't a number, gives n/a and is named."""
    found = paired_ratio([1.0, value], [1.0, 1.0])

    assert found.measure.value is None
    assert found.measure.reason == f"repeat 2 measured {value:g}, and a ratio needs values above zero"


def test_wild_repeats_have_a_wide_interval() -> None:
    """An interval wider than numbers go has ends that are numbers."""
    low, _, high = ends(paired_ratio([1e-9, 1e9], [1.0, 1.0], level=0.9999))

    assert 0 < low < 1e-300
    assert 1e300 < high < float("inf")


def test_nothing_measured() -> None:
    """No repeats give n/a; sides of unequal length are no pairs."""
    assert geometric_mean([], "s").reason == unpaired_ratio([1.0], []).reason == "nothing was measured"
    with pytest.raises(ValueError, match="3 and 2 values"):
        paired_ratio([1.0] * 3, [1.0] * 2)


def test_the_table_is_students_t() -> None:
    """The table that runs use is never below the quantile, and above it by no more than it says."""
    exact = [float(stats.t.ppf(0.975, free)) for free in range(1, 2001)]
    for free, expected in enumerate(exact, start=1):
        assert t_95(free) >= expected
        assert t_95(free) <= (expected + 0.001 if free <= len(T_95) else 1.043 * expected)
        assert quantile(0.95, free) == expected

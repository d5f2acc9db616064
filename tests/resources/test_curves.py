"""Curves that stay small."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.footprint import Curve
from tokenmill.resources.curves import Curves


def drawn(values: list[float | None], points: int = 4) -> tuple[Curves, Curve]:
    """A curve with one sample a second."""
    curves = Curves(0.0, points)
    for second, value in enumerate(values, start=1):
        curves.add(float(second), {"a": value})
    return curves, curves.curve("a", "%")


def test_few_samples_are_kept_as_they_are() -> None:
    """Below the limit each sample is a point, and a missing one is a gap."""
    curves, curve = drawn([1.0, None, 3.0])

    assert curves.times == [1.0, 2.0, 3.0]
    assert curve.means == curve.maxima == (1.0, None, 3.0)


def test_two_points_become_one_when_there_are_too_many() -> None:
    """The mean is weighted by time, and the largest sample stays."""
    curves, curve = drawn([1.0, 3.0, 5.0, None, 10.0])

    assert curves.times == [2.0, 4.0, 5.0]
    assert curve.means == (2.0, 5.0, 10.0)
    assert curve.maxima == (3.0, 5.0, 10.0)


def test_later_points_gather_as_much_as_the_older_ones() -> None:
    """After two points became one, a new point takes two samples as well."""
    curves, curve = drawn([1.0, 3.0, 5.0, 7.0, 10.0, 20.0, 30.0])

    assert curves.times == [2.0, 4.0, 6.0, 7.0]
    assert curve.means == (2.0, 6.0, 15.0, 30.0)


def test_a_curve_that_begins_late_has_a_gap_before() -> None:
    """A process that starts in the middle has no values until then."""
    curves = Curves(0.0, 4)
    curves.add(1.0, {"a": 1.0})
    curves.add(2.0, {"a": 1.0, "b": 8.0})

    assert curves.curve("b", "%").means == (None, 8.0)


def test_a_name_that_was_never_heard_of_has_no_points() -> None:
    """Then only the reason is there."""
    assert Curves(0.0).curve("a", "W", "no counter") == Curve(unit="W", reason="no counter")


def test_bytes_stay_whole() -> None:
    """A size is no fraction of a byte."""
    curves = Curves(0.0, 2)
    for second, size in enumerate([1, 2, 4], start=1):
        curves.add(float(second), {"a": size})

    assert curves.curve("a", "B").means == (2, 4)


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.none() | st.floats(0, 1e6)), min_size=1, max_size=200),
    st.sampled_from([2, 4, 6, 10]),
)
def test_the_area_and_the_largest_survive(samples: list[tuple[float, float | None]], points: int) -> None:
    """However often points are joined, there are never too many, and mean and largest of all samples stay."""
    curves = Curves(0.0, points)
    now = 0.0
    for seconds, value in samples:
        now += seconds
        curves.add(now, {"a": value})
    curve = curves.curve("a", "%")

    assert len(curves.times) <= points
    assert len(curve.means) == len(curve.maxima) == len(curves.times)
    assert curves.times == sorted(curves.times)
    assert curves.times[-1] == now
    known = [value for _, value in samples if value is not None]
    assert max((value for value in curve.maxima if value is not None), default=None) == (
        pytest.approx(max(known), abs=0.005) if known else None
    )
    if len(known) == len(samples):
        ends = [0.0, *curves.times]
        area = math.fsum(
            mean * (end - start) for mean, start, end in zip(curve.means, ends, curves.times, strict=False) if mean
        )
        assert area == pytest.approx(math.fsum(s * v for s, v in samples if v), rel=1e-6, abs=0.01 * now)

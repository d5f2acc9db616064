"""When requests of an open loop are due: seeded, at the rate asked for, and refused by line where a file is faulty."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import expon, kstest

from tokenmill.bench.arrivals import constant, due_times, poisson, read_times, recorded
from tokenmill.errors import UsageError


def take(times: Iterator[float], count: int) -> list[float]:
    return list(itertools.islice(times, count))


def test_gaps_of_poisson_arrivals_are_exponential() -> None:
    """The gaps have the distribution and the mean that the rate promises (Kolmogorov-Smirnov)."""
    times = [0.0, *take(poisson(5.0, "0"), 5000)]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert kstest(gaps, expon(scale=0.2).cdf).pvalue > 0.01
    assert times[-1] / 5000 == pytest.approx(0.2, rel=0.03)


@given(seed=st.text(max_size=5), rate=st.floats(0.01, 1000))
def test_arrivals_are_repeatable_and_scale_with_the_rate(seed: str, rate: float) -> None:
    """A seed gives the same times again, at every rate but for their scale."""
    ours, theirs = take(poisson(rate, seed), 20), take(poisson(1.0, seed), 20)
    assert ours == take(poisson(rate, seed), 20)
    assert [time * rate for time in ours] == pytest.approx(theirs)
    assert ours == sorted(ours)


def test_a_recording_keeps_its_shape_at_any_rate(tmp_path: Path) -> None:
    """The gaps of a file are stretched to the rate asked for, and begin anew when they are used up."""
    path = tmp_path / "times.txt"
    path.write_text("10\n11\n\n14\n")
    assert read_times(path) == [10.0, 11.0, 14.0]
    assert take(due_times(str(path), 1.0, ""), 4) == pytest.approx([0.5, 2.0, 2.5, 4.0])
    assert take(recorded([0.0, 1.0, 4.0], 0.5), 2) == pytest.approx([1.0, 4.0])
    assert take(constant(4.0), 3) == [0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\nx\n", "line 2: 'x' is no number"),
        ("1\nnan\n", "line 2: 'nan' is no number"),
        ("2\n1\n", "line 2: '1' comes after 2"),
        ("1\n", "1 times over no span"),
        ("1\n1\n", "2 times over no span"),
    ],
)
def test_a_faulty_recording_is_refused_by_line(tmp_path: Path, text: str, said: str) -> None:
    """The message names file, line and what to give instead."""
    path = tmp_path / "times.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        read_times(path)
    assert str(path) in str(caught.value)
    assert "give one time in seconds a line" in str(caught.value)

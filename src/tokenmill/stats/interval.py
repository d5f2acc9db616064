"""Ratios of repeated measurements with their intervals: Student's t on logarithms.

Times and rates are above zero and vary by factors, so they are compared as ratios: the mean of logarithms, taken back,
is the geometric mean. This treats both directions alike: swapping the sides gives the reciprocal interval, and a change
of unit changes nothing. Warm-up is left out, and pairs are formed, by whoever measured.

Sources: Student 1908, "The probable error of a mean"; Welch 1947, "The generalization of Student's problem when several
different population variances are involved".
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite, log, sqrt
from statistics import fmean, variance

from msgspec import Struct

from tokenmill.stats.measure import Measure
from tokenmill.stats.student import quantile

#: Repeats that an interval needs at least: one says nothing about spread.
SPREAD_NEEDS = 2
LEVEL = 0.95
#: Ends are not looked for beyond this logarithm: two wild repeats have an interval wider than numbers go.
_FARTHEST = 700.0


class Interval(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A `value` in its `unit`, and the ends of its interval at `level`, over so many repeats.

    `low` and `high` are None if there is no interval, `value` too if there is not even that; `reason` says why.
    `counts` holds one number, or one for each of two sides that weren't measured in pairs; `counted` says of what.
    """

    value: float | None
    low: float | None
    high: float | None
    unit: str
    counts: tuple[int, ...]
    counted: str
    level: float = LEVEL
    reason: str = ""

    @property
    def measure(self) -> Measure:
        """The value alone."""
        return Measure(self.value, self.unit, "" if self.value is not None else self.reason)

    @property
    def repeats(self) -> str:
        """The repeats in words: `5 pairs`, `20 and 18 repeats`."""
        return f"{' and '.join(str(count) for count in self.counts)} {self.counted}"


def paired_ratio(these: Sequence[float], those: Sequence[float], *, level: float = LEVEL) -> Interval:
    """The geometric mean of these[i] / those[i] with its t interval; both were measured in turns, pair by pair.

    Above 1, these are larger. A value that isn't above zero gives n/a, as then there is no ratio.

    Raises:
        ValueError: the sides are not of one length.
        UsageError: scipy isn't installed.
    """
    if len(these) != len(those):
        raise ValueError(f"pairs need two sides of one length, these are {len(these)} and {len(those)} values")
    counts = (len(these),)
    if reason := _unusable(these, those):
        return _none("", counts, "pairs", level, reason)
    logs = [log(this) - log(that) for this, that in zip(these, those, strict=True)]
    return _of_logs(logs, "", "pairs", level)


def unpaired_ratio(these: Sequence[float], those: Sequence[float], *, level: float = LEVEL) -> Interval:
    """The ratio of the geometric means of two sets of repeats, with Welch's t interval: their spreads may differ.

    For sets that were measured at different times, as an old result and a new one: whatever else changed between them
    is part of the ratio. Pairs measured in turns don't have that fault.

    Raises:
        UsageError: scipy isn't installed.
    """
    counts = (len(these), len(those))
    if reason := _unusable(these, those):
        return _none("", counts, "repeats", level, reason)
    sides = [log(value) for value in these], [log(value) for value in those]
    middle = fmean(sides[0]) - fmean(sides[1])
    if min(counts) < SPREAD_NEEDS:
        return _bare(exp(middle), "", counts, "repeats", level)
    parts = [variance(side) / len(side) for side in sides]
    error = sqrt(sum(parts))
    if error == 0:
        return _around(middle, 0.0, "", counts, "repeats", level)
    free = error**4 / sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    return _around(middle, quantile(level, free) * error, "", counts, "repeats", level)


def geometric_mean(values: Sequence[float], unit: str, *, level: float = LEVEL) -> Interval:
    """What repeats of one measurement come to, in `unit`, with the t interval of their logarithms.

    The ratio of two such means is what `paired_ratio` gives for the same values.

    Raises:
        UsageError: scipy isn't installed.
    """
    if reason := _unusable(values):
        return _none(unit, (len(values),), "repeats", level, reason)
    return _of_logs([log(value) for value in values], unit, "repeats", level)


def _of_logs(logs: Sequence[float], unit: str, counted: str, level: float) -> Interval:
    count = len(logs)
    middle = fmean(logs)
    if count < SPREAD_NEEDS:
        return _bare(exp(middle), unit, (count,), counted, level)
    error = sqrt(variance(logs) / count)
    reach = quantile(level, count - 1) * error if error > 0 else 0.0
    return _around(middle, reach, unit, (count,), counted, level)


def _unusable(*sides: Sequence[float]) -> str:
    """Why these values have no geometric mean."""
    if not all(sides):
        return "nothing was measured"
    for side in sides:
        for number, value in enumerate(side, start=1):
            if not (isfinite(value) and value > 0):
                return f"repeat {number} measured {value:g}, and a ratio needs values above zero"
    return ""


def _around(middle: float, reach: float, unit: str, counts: tuple[int, ...], counted: str, level: float) -> Interval:
    low, high = exp(max(middle - reach, -_FARTHEST)), exp(min(middle + reach, _FARTHEST))
    return Interval(value=exp(middle), low=low, high=high, unit=unit, counts=counts, counted=counted, level=level)


def _bare(value: float, unit: str, counts: tuple[int, ...], counted: str, level: float) -> Interval:
    """A value of which there are too few repeats for an interval."""
    reason = f"an interval needs {SPREAD_NEEDS} {counted}, there is {min(counts)}"
    return Interval(
        value=value, low=None, high=None, unit=unit, counts=counts, counted=counted, level=level, reason=reason
    )


def _none(unit: str, counts: tuple[int, ...], counted: str, level: float, reason: str) -> Interval:
    return Interval(
        value=None, low=None, high=None, unit=unit, counts=counts, counted=counted, level=level, reason=reason
    )

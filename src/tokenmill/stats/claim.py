"""What may be said of two sides: that one is better by so much, that no difference was shown, or nothing at all."""

from __future__ import annotations

from math import ceil, log10
from typing import Literal

from msgspec import Struct

from tokenmill.stats.interval import Interval

#: Repeats, after warm-up, below which nothing is claimed.
CLAIM_NEEDS = 5
#: An interval whose end is as near to 1 as this includes it: so close, the arithmetic decides and not the measurement.
_EQUAL = 1e-9
#: From this ratio on a factor reads better than a percentage.
_FACTOR = 2.0

Finding = Literal["better", "worse", "no difference", "n/a"]


class Claim(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a `ratio` of goodness shows: above 1, the first side is better.

    Speed is throughput, or the other side's seconds over one's own: `Claim(ratio=paired_ratio(old, new))` of seconds
    says how much faster the new side is. Percentages are of the other side's value: half the speed is 50 % slower.
    `better` and `worse` are the words for it.
    """

    ratio: Interval
    better: str = "faster"
    worse: str = "slower"

    @property
    def finding(self) -> Finding:
        """What the interval shows; n/a without one, or with fewer than five repeats."""
        low, high = self.ratio.low, self.ratio.high
        if low is None or high is None or min(self.ratio.counts) < CLAIM_NEEDS:
            return "n/a"
        if low > 1 + _EQUAL:
            return "better"
        return "worse" if high < 1 - _EQUAL else "no difference"

    @property
    def reason(self) -> str:
        """Why nothing is claimed; empty if something is."""
        if self.finding != "n/a":
            return ""
        few = f"a claim needs {CLAIM_NEEDS} {self.ratio.counted}, there are {self.ratio.repeats}"
        return few if self.ratio.value is not None else self.ratio.reason

    def __str__(self) -> str:
        finding, ratio = self.finding, self.ratio
        if finding == "n/a" or ratio.value is None or ratio.low is None or ratio.high is None:
            return f"n/a: {self.reason}"
        named, repeats = f"{100 * ratio.level:g} % interval", f"n = {ratio.repeats}"
        if finding == "no difference":
            low, high = _rounded(100 * (ratio.low - 1), 100 * (ratio.high - 1))
            return f"no difference shown, {named} {low} to {high} %, {repeats}"
        word = self.better if finding == "better" else self.worse
        if 1 / _FACTOR < ratio.value < _FACTOR:
            sign = 100 if finding == "better" else -100
            value, low, high = _around(*(sign * (end - 1) for end in (ratio.value, ratio.low, ratio.high)))
            return f"{value} % {word}, {named} {low} to {high} %, {repeats}"
        power = 1 if finding == "better" else -1
        value, low, high = _around(ratio.value**power, ratio.low**power, ratio.high**power)
        return f"{word} by a factor of {value}, {named} {low} to {high}, {repeats}"


def _around(value: float, *ends: float) -> tuple[str, str, str]:
    """A value with one decimal more than the ends of its interval, the smaller end first."""
    low, high = sorted(ends)
    return f"{value:.{_digits(low, high) + 1}f}", *_rounded(low, high)


def _rounded(low: float, high: float) -> tuple[str, str]:
    digits = _digits(low, high)
    return f"{_cleared(low):.{digits}f}", f"{_cleared(high):.{digits}f}"


def _digits(low: float, high: float) -> int:
    """Decimals that show the interval's half-width, and no end as zero that isn't."""
    width = (high - low) / 2
    digits = max(0, ceil(-log10(width))) if width > _EQUAL else 1
    smallest = min(abs(end) for end in (low, high))
    return max(digits, ceil(-log10(2 * smallest) + _EQUAL)) if smallest > 100 * _EQUAL else digits


def _cleared(end: float) -> float:
    """Zero for what only rounding made different from it, so that it has no sign."""
    return 0.0 if abs(end) <= 100 * _EQUAL else end

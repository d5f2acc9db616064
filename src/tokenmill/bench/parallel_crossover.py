"""From which size of the data on another way is the faster one: found between two sizes, or not found.

At each size the two ways are compared in pairs. A crossover is found only if one way is shown to be faster at one size
and the other at a larger one; it then lies between these two, and that is its interval. As every size is a chance to be
wrong, the level of each comparison is Bonferroni's, so that all of them together are right in 95 % of cases. Where the
mean ratio passes 1 in between is the estimate; lines are drawn between logarithms of sizes and of ratios.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from math import exp, log

from msgspec import Struct

from tokenmill.stats.claim import Claim
from tokenmill.stats.interval import LEVEL, Interval, paired_ratio


class Crossover(Struct, frozen=True, kw_only=True):
    """Up to size `low` the one way is faster, from `high` on the other; `at` is the estimate.

    `is_first_small`: whether it is the first way that is faster on small data. Without a crossover the sizes are None
    and `reason` says why. `ratios`: the first way's rate over the second's, by size.
    """

    ratios: dict[int, Interval]
    low: int | None = None
    high: int | None = None
    at: float | None = None
    is_first_small: bool = False
    reason: str = ""


def find_crossover(these: Mapping[int, Mapping[int, float]], those: Mapping[int, Mapping[int, float]]) -> Crossover:
    """Rates of two ways by size of the data and by repeat."""
    sizes = sorted(size for size in these if size in those)
    if len(sizes) < 2:
        told = "no size of the data was" if not sizes else f"only {sizes[0]} texts were"
        return Crossover(ratios={}, reason=f"{told} measured with both; give --limit two sizes or more")
    level = 1 - (1 - LEVEL) / len(sizes)
    ratios = {size: _ratio(these[size], those[size], level) for size in sizes}
    signs = {size: _sign(ratio) for size, ratio in ratios.items()}
    shown = [(size, sign) for size, sign in signs.items() if sign]
    changes = [(one, other) for one, other in itertools.pairwise(shown) if one[1] != other[1]]
    if len(changes) > 1:
        passed = ", ".join(f"{low[0]} and {high[0]}" for low, high in changes)
        return Crossover(ratios=ratios, reason=f"the faster one changes more than once, between {passed} texts")
    if not changes:
        return Crossover(ratios=ratios, reason=_unchanged(ratios, shown))
    (low, sign), (high, _) = changes[0]
    return Crossover(ratios=ratios, low=low, high=high, at=_estimate(ratios, low, high), is_first_small=sign > 0)


def _ratio(these: Mapping[int, float], those: Mapping[int, float], level: float) -> Interval:
    pairs = sorted(repeat for repeat in these if repeat in those)
    return paired_ratio([these[each] for each in pairs], [those[each] for each in pairs], level=level)


def _sign(ratio: Interval) -> int:
    """1 where the first is shown to be faster, -1 where the second is, 0 where neither is."""
    return {"better": 1, "worse": -1}.get(Claim(ratio=ratio).finding, 0)


def _unchanged(ratios: Mapping[int, Interval], shown: list[tuple[int, int]]) -> str:
    """Why there is no change: always the same one, or nothing shown."""
    few = next((claim.reason for each in ratios.values() if (claim := Claim(ratio=each)).reason), "")
    if few:
        return few
    open_sizes = [str(size) for size in ratios if size not in dict(shown)]
    undecided = f"; {', '.join(open_sizes)} texts don't decide" if open_sizes else ""
    if not shown:
        return f"at no size is either shown to be faster ({min(ratios)} to {max(ratios)} texts)"
    which = "the first" if shown[0][1] > 0 else "the second"
    return f"{which} is faster at {', '.join(str(size) for size, _ in shown)} texts{undecided}"


def _estimate(ratios: Mapping[int, Interval], low: int, high: int) -> float:
    """Where the mean passes 1 for the first time between two sizes at which it lies on different sides."""
    points = [(log(size), log(each.value)) for size, each in ratios.items() if low <= size <= high and each.value]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if y0 * y1 <= 0 and y0 != y1:
            return exp(x0 + (x1 - x0) * y0 / (y0 - y1))
    raise AssertionError("the means of both ends lie on different sides")

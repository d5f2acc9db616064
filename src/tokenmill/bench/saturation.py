"""Whether arrivals outrun departures, so that no window is long enough: the requests in flight grow while it lasts.

The window is cut into ten stretches, and the mean number in flight of each is put to the Mann-Kendall test for a
rising trend (Mann 1945, "Nonparametric tests against trend"; Kendall 1975), which asks for no shape of the rise.
Repeats are pooled as seasons are in the seasonal Kendall test (Hirsch, Slack and Smith 1982), where scores and
variances add up. How much it rises is Sen's slope (Sen 1968), the median slope of all pairs. Near its capacity a node
that keeps up has long spells with more in flight, which look like a trend, so the rise must also be more than chance
gives to a node whose arrivals and departures are equal on average: their difference over n arrivals strays by about the
root of n.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import erfc, sqrt
from statistics import median

from msgspec import Struct

#: Stretches of a window.
STRETCHES = 10
#: The variance of Kendall's score of so many values in random order.
VARIANCE = STRETCHES * (STRETCHES - 1) * (2 * STRETCHES + 5) / 18
#: Pairs of them.
PAIRS = STRETCHES * (STRETCHES - 1) // 2
#: The chance of such a trend where there is none, from which on none is seen.
CHANCE = 0.01
#: The rise that counts, in roots of the arrivals.
STRAY = 1.5
#: And as a part of them: a node that falls behind by less holds for minutes.
LEAST = 0.03


class Drift(Struct, frozen=True, kw_only=True):
    """How the number in flight moved over windows of so many `arrivals` in all.

    `rise`: requests that came to be in flight, by Sen's slope. `score`: Kendall's, of all `windows`.
    """

    arrivals: int
    rise: float
    score: float
    windows: int = 1

    @property
    def tau(self) -> float:
        """The score as a part of the highest there is: 1 for a steady rise."""
        return self.score / (self.windows * PAIRS)

    @property
    def chance(self) -> float:
        """The probability of such a trend where there is none, one-sided, by the normal approximation."""
        return erfc((self.score - 1) / sqrt(self.windows * VARIANCE) / sqrt(2)) / 2

    @property
    def is_saturated(self) -> bool:
        least = max(LEAST * self.arrivals, STRAY * sqrt(self.arrivals), 1.0)
        return self.chance < CHANCE and self.rise >= least


def drift(spans: Sequence[tuple[float, float]], begin: float, end: float) -> Drift:
    """The drift between `begin` and `end`; `spans` are (due, end) of every request, also of those before and after."""
    length = (end - begin) / STRETCHES
    levels = [_mean_in_flight(spans, begin + number * length, length) for number in range(STRETCHES)]
    pairs = list(itertools.combinations(range(STRETCHES), 2))
    score = sum((levels[late] > levels[early]) - (levels[late] < levels[early]) for early, late in pairs)
    slope = median((levels[late] - levels[early]) / (late - early) for early, late in pairs)
    arrivals = sum(begin <= due < end for due, _ in spans)
    return Drift(arrivals=arrivals, rise=slope * STRETCHES, score=score)


def pooled(windows: int, arrivals: float, rise: float, score: float) -> Drift:
    """The drift of several windows under the same load, from the median of each figure: one stall decides nothing."""
    return Drift(arrivals=round(windows * arrivals), rise=windows * rise, score=windows * score, windows=windows)


def _mean_in_flight(spans: Sequence[tuple[float, float]], begin: float, length: float) -> float:
    end = begin + length
    return sum(max(0.0, min(done, end) - max(due, begin)) for due, done in spans) / length

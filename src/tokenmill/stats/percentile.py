"""Percentiles of one sample, and of repeated runs with intervals that resample whole runs.

The requests of one run share its machine, its moment and its queue, so they are not independent of each other; the runs
are. Resampling requests would take a thousand of one bad minute for a thousand witnesses. Sources: Efron 1979,
"Bootstrap methods: another look at the jackknife"; for groups, Davison and Hinkley 1997, "Bootstrap methods and their
application"; for few runs, Hesterberg 2015, "What teachers should know about the bootstrap".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

from tokenmill.stats.interval import LEVEL, Interval
from tokenmill.stats.library import needs_scipy
from tokenmill.stats.student import quantile

#: Below this, a 99th percentile is the largest value or next to it, and says nothing.
P99_NEEDS = 300
#: Runs below which resampling them says too little of what other runs would have been.
RUNS_NEED = 5
#: Times the runs are drawn; the ends of the interval vary by a few hundredths of its width.
RESAMPLES = 2000


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of a sorted, non-empty sample lies; linear between the two nearest ranks."""
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def percentile_of_runs(
    runs: Sequence[Sequence[float]], share: float, unit: str, *, level: float = LEVEL, seed: int = 0
) -> Interval:
    """The percentile `share` (0 to 1) over the requests of all runs, in `unit`, with its bootstrap interval.

    The runs did the same work. From `share` 0.99 on, three requests must lie beyond it (300 for the 99th), or it is
    n/a. The interval is widened for few runs and still somewhat too narrow: of those for the 95th percentile of runs
    that differ by a tenth, meant to hold it in 95 % of cases, 87 % did with five runs and 92 % with ten. The same
    `seed` gives the same interval.

    Raises:
        ValueError: `share` is not between 0 and 1.
        UsageError: scipy isn't installed.
    """
    if not 0 < share < 1:
        raise ValueError(f"a percentile lies between 0 and 1, not at {share:g}")
    reason = _too_few(runs, share)
    value = None if reason else percentile(sorted(chain.from_iterable(runs)), share)
    if not reason and len(runs) < RUNS_NEED:
        reason = f"an interval needs {RUNS_NEED} runs to resample, there are {len(runs)}"
    low, high = (None, None) if reason else _resampled(runs, share, level, seed)
    return Interval(
        value=value, low=low, high=high, unit=unit, counts=(len(runs),), counted="runs", level=level, reason=reason
    )


def _too_few(runs: Sequence[Sequence[float]], share: float) -> str:
    """Why there is no such percentile."""
    requests = sum(len(run) for run in runs)
    needed = math.ceil(P99_NEEDS * 0.01 / (1 - share) - 1e-6) if share >= 0.99 else 1
    if requests < needed:
        return f"p{100 * share:g} needs {needed} requests, there are {requests}" if requests else "nothing was measured"
    empty = [str(number) for number, run in enumerate(runs, start=1) if not run]
    return f"run {', '.join(empty)} has no request" if empty else ""


def _resampled(runs: Sequence[Sequence[float]], share: float, level: float, seed: int) -> tuple[float, float]:
    """The expanded percentile interval: of few runs, resamples spread too little, by sqrt((n - 1) / n) and by the
    normal quantile in place of Student's, so the ends are taken further out (Hesterberg)."""
    with needs_scipy("an interval of percentiles"):
        import numpy
        from scipy.stats import bootstrap, norm

    pool = numpy.concatenate([numpy.asarray(run, dtype=float) for run in runs])
    order = numpy.argsort(pool)
    ordered, owner = pool[order], numpy.repeat(numpy.arange(len(runs)), [len(run) for run in runs])[order]

    def statistic(drawn: Any) -> float:
        """The percentile of the drawn runs' requests: each counts as often as its run was drawn."""
        reached = numpy.cumsum(numpy.bincount(drawn.astype(int), minlength=len(runs))[owner])
        position = share * (int(reached[-1]) - 1)
        rank = math.floor(position)
        at = numpy.searchsorted(reached, (rank, min(rank + 1, int(reached[-1]) - 1)), side="right")
        low, high = ordered[at]
        return float(low + (position - rank) * (high - low))

    count = len(runs)
    expanded = 2 * float(norm.cdf(math.sqrt(count / (count - 1)) * quantile(level, count - 1))) - 1
    found = bootstrap(
        (numpy.arange(count),),
        statistic,
        n_resamples=RESAMPLES,
        vectorized=False,
        confidence_level=expanded,
        method="percentile",
        rng=numpy.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)

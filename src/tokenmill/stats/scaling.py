"""How far more workers help: speedup, efficiency, the serial fraction, and the law that says where help ends.

Sources: Karp and Flatt 1990, "Measuring parallel processor performance"; Gunther 1993, "A simple capacity model of
massively parallel transaction systems", and 2007, "Guerrilla Capacity Planning", for the universal scalability law.
A worker is whatever was counted: requests in flight, slots, nodes or threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, sqrt

from msgspec import Struct

from tokenmill.stats.library import needs_scipy
from tokenmill.stats.measure import Measure

#: Different numbers of workers that the law needs at least: it has three parameters, and no spread shows with fewer.
USL_NEEDS = 5
#: A serial share nearer to 1, and a bend of the curve nearer to 0, count as there: nobody could see the difference.
_EXACT = 1e-3
#: The chance below which a bend counts as shown.
_CHANCE = 0.05


def speedup(baseline: float, seconds: float) -> Measure:
    """T(baseline) / T in seconds, on equal work; n/a unless both are above zero."""
    if not (baseline > 0 and seconds > 0):
        return Measure(None, "", f"times must be above zero, these are {baseline:g} and {seconds:g} s")
    return Measure(baseline / seconds, "")


def efficiency(speedup: float, used: float, baseline: float = 1.0, *, unit: str) -> Measure:
    """Speedup / (resources used / resources of the baseline), both counted in `unit`: slots, nodes, cores, W.

    For unequal nodes, `used` and `baseline` are sums of their relative rates. 1 is perfect; n/a if one used nothing.
    """
    named = f"per {unit}"
    if not (used > 0 and baseline > 0):
        return Measure(None, named, f"resources must be above zero, these are {used:g} and {baseline:g} {unit}")
    return Measure(speedup / (used / baseline), named)


def karp_flatt(speedup: float, workers: float) -> Measure:
    """The serial fraction that a speedup shows: e = (1/S - 1/p) / (1 - 1/p), no unit; n/a with one worker.

    0 is perfect. If it grows with the workers, overhead grows with them; below 0 the speedup is more than their number.
    """
    if workers <= 1:
        return Measure(None, "", f"the serial fraction needs more than one worker, there is {workers:g}")
    if not speedup > 0:
        return Measure(None, "", f"a speedup is above zero, this is {speedup:g}")
    return Measure((1 / speedup - 1 / workers) / (1 - 1 / workers), "")


class Usl(Struct, frozen=True, kw_only=True):
    """The universal scalability law X(N) = lN / (1 + s(N-1) + kN(N-1)), fitted to measured throughputs.

    `single` is l, the rate of one worker in the unit measured; `serial` is s, the share that queues for something;
    `coherence` is k, the cost of every pair that must agree. `widest` is the largest N measured, `scatter` the root
    mean square of the points' relative distances from the curve. `chance` is the probability that points of a law
    without k would look as bent as these (F test).
    """

    single: float
    serial: float
    coherence: float
    widest: float
    scatter: float
    chance: float

    def rate(self, workers: float) -> float:
        """Throughput with so many workers, in the unit measured."""
        return self.single * workers / self._load(workers)

    def gain(self, workers: float) -> float:
        """What one more worker than these brings, as a share of their throughput: 0.1 is 10 %, below 0 is a loss."""
        return self.rate(workers + 1) / self.rate(workers) - 1

    @property
    def best(self) -> Measure:
        """The N of most throughput, sqrt((1 - s) / k) but at least 1; n/a where the points show no top.

        k must be above zero by more than chance: of points that scatter, one in two has some k above zero, and
        sqrt((1 - s) / k) would make a number of it. Above `widest` the number is extrapolated.
        """
        if self.serial >= 1 - _EXACT:
            return Measure(None, "", f"more workers bring nothing: the serial share is {self.serial:.3g}")
        bend = self.coherence * self.widest * (self.widest - 1) / self._load(self.widest)
        if bend < _EXACT or self.chance >= _CHANCE:
            return Measure(None, "", f"the points show no top of throughput up to N = {self.widest:g}")
        return Measure(max(1.0, sqrt((1 - self.serial) / self.coherence)), "")

    @property
    def is_extrapolated(self) -> bool:
        """Whether the best N lies beyond what was measured."""
        best = self.best.value
        return best is not None and best > self.widest

    def _load(self, workers: float) -> float:
        return 1 + self.serial * (workers - 1) + self.coherence * workers * (workers - 1)


def fit_usl(workers: Sequence[float], rates: Sequence[float]) -> Usl | Measure:
    """Fits the law to throughputs at numbers of workers >= 1; repeats of one N are given as points of their own.

    Least squares of relative distances with l, s, k >= 0. N / X is linear in 1/l, s/l and k/l, so the fit has one
    solution and needs no first guess. n/a, as a `Measure` with the reason, with fewer than five distinct N.

    Raises:
        ValueError: not as many rates as numbers of workers.
        UsageError: scipy isn't installed.
    """
    if reason := _unfit(workers, rates):
        return Measure(None, "", reason)
    with needs_scipy("the scalability law"):
        from scipy.optimize import nnls

    scale = max(rates)  # so that the parameters are of like size
    points = [(count, rate / scale) for count, rate in zip(workers, rates, strict=True)]
    rows = [[share / count, share * (count - 1) / count, share * (count - 1)] for count, share in points]
    ones = [1.0] * len(rows)
    found, distance = nnls(rows, ones)
    straight = nnls([row[:2] for row in rows], ones)[1]
    inverse, serial, coherence = (float(part) for part in found)
    if inverse <= 0:
        return Measure(None, "", "the points lie on no such curve: the rate of one worker would be without bound")
    return Usl(
        single=scale / inverse,
        serial=serial / inverse,
        coherence=coherence / inverse,
        widest=max(workers),
        scatter=float(distance) / sqrt(len(rows)),
        chance=_chance(float(straight) ** 2, float(distance) ** 2, len(rows) - 3),
    )


def _unfit(workers: Sequence[float], rates: Sequence[float]) -> str:
    """Why the law can't be fitted to these points."""
    if len(workers) != len(rates):
        raise ValueError(f"each number of workers needs a rate, these are {len(workers)} and {len(rates)} values")
    for count, rate in zip(workers, rates, strict=True):
        if not (isfinite(rate) and rate > 0 and isfinite(count) and count >= 1):
            return f"the law needs N >= 1 and rates above zero, there is {rate:g} at N = {count:g}"
    distinct = len(set(workers))
    return "" if distinct >= USL_NEEDS else f"the law needs {USL_NEEDS} different numbers of workers, not {distinct}"


def _chance(without: float, remaining: float, free: int) -> float:
    """The F test of one parameter: squares `without` it, `remaining` with it, and `free` degrees of freedom left."""
    from scipy.stats import f

    if remaining == 0:
        return 0.0 if without > 0 else 1.0
    return float(f.sf((without - remaining) / (remaining / free), 1, free))

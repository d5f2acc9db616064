"""How a sample is spread, in figures with a unit or a reason."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

from msgspec import Struct

from tokenmill.stats.measure import Measure
from tokenmill.stats.percentile import P99_NEEDS, percentile

__all__ = ["Measure", "P99_NEEDS", "Spread", "percentile", "spread"]


class Spread(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A sample of `count` values; percentiles are interpolated linearly between the two nearest ranks."""

    unit: str
    count: int
    mean: Measure
    p50: Measure
    p95: Measure
    p99: Measure
    largest: Measure


def spread(values: Iterable[float], unit: str, nothing: str) -> Spread:
    """How the values are spread, NaN left out; `nothing` says why there are none, should that be so."""
    sample = array("d", sorted(value for value in values if value == value))
    if not sample:
        none = Measure(None, unit, nothing)
        return Spread(unit=unit, count=0, mean=none, p50=none, p95=none, p99=none, largest=none)
    count = len(sample)
    few = f"p99 needs {P99_NEEDS} requests, there are {count}"
    return Spread(
        unit=unit,
        count=count,
        mean=Measure(math.fsum(sample) / count, unit),
        p50=Measure(percentile(sample, 0.50), unit),
        p95=Measure(percentile(sample, 0.95), unit),
        p99=Measure(percentile(sample, 0.99), unit) if count >= P99_NEEDS else Measure(None, unit, few),
        largest=Measure(sample[-1], unit),
    )

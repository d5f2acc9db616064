"""Amounts over time: what intervals add up to, as exact means over equal steps of a run."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import repeat

from msgspec import Struct

POINTS = 200


class Series(Struct, frozen=True):
    """Means over consecutive steps of `step` seconds, from the start of the run."""

    step: float
    values: tuple[float, ...]


def level(
    opens: Sequence[float],
    closes: Sequence[float],
    makespan: float,
    weights: Iterable[float] | None = None,
    points: int = POINTS,
) -> Series:
    """The summed weights (1 each if not given) of the intervals that are open, over `points` steps of the makespan."""
    if not len(opens) or makespan <= 0:
        return Series(0.0, ())
    step = makespan / points
    whole, part = array("d", bytes(8 * (points + 1))), array("d", bytes(8 * points))
    for opened, closed, weight in zip(opens, closes, weights or repeat(1.0), strict=False):
        for time, change in ((opened, weight), (closed, -weight)):
            place = min(int(time / step), points - 1)
            part[place] += change * ((place + 1) - time / step)
            whole[place + 1] += change
    values, total = [], 0.0
    for place in range(points):
        total += whole[place]
        values.append(round(max(0.0, total + part[place]), 6))
    return Series(step, tuple(values))

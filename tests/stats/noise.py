"""Repeats with a known spread around a known value, from a stated seed."""

from __future__ import annotations

from math import exp
from random import Random


def repeats(random: Random, value: float, count: int, noise: float = 0.02) -> list[float]:
    """Positive values whose logarithms are normal around that of `value`, with `noise` as relative spread."""
    return [value * exp(random.gauss(0.0, noise)) for _ in range(count)]

"""Figures as people read them: three digits and a unit."""

from __future__ import annotations

from tokenmill.report.measure import Measure

NONE = "n/a"


def figure(value: float) -> str:
    """Three significant digits, thousands as k, millions as M: 12.3, 1.2 k, 34 M."""
    for size, mark in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= 0.9995 * size:
            scaled = value / size
            return f"{scaled:.0f}{mark}" if abs(scaled) >= 99.95 else f"{scaled:.1f}{mark}"
    if value == 0 or abs(value) >= 99.95:
        return f"{value:.0f}"
    if abs(value) >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}"


def seconds(value: float) -> str:
    """A duration in at most nine columns: 0.40 ms, 12.3 s, 12.1 min, 2.02 h."""
    if value >= 3598.2:
        return f"{figure(value / 3600)} h"
    if value >= 599.5:
        return f"{figure(value / 60)} min"
    if value == 0 or value >= 0.9995:
        return f"{figure(value)} s"
    return f"{figure(value * 1000)} ms"


def measure(shown: Measure) -> str:
    """A value with its unit, or n/a; the reason is for the reader of the certificate to print beside it."""
    if shown.value is None:
        return NONE
    if shown.unit == "s":
        return seconds(shown.value)
    if shown.unit == "s/token":
        return f"{seconds(shown.value)}/token"
    unit = shown.unit.replace("tokens/s", "tok/s")
    number = figure(shown.value)
    # A prefix joins its unit: 1.2 k tok/s.
    return f"{number} {unit}".rstrip()

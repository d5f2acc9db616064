"""A figure with its unit, or the reason why there is none."""

from __future__ import annotations

from msgspec import Struct


class Measure(Struct, frozen=True, omit_defaults=True):
    """A value in its unit. None is "not available", for the reason given."""

    value: float | None
    unit: str
    reason: str = ""

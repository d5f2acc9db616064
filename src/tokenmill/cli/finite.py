"""Numbers of options: neither infinite nor without a value, which no record could give back."""

from __future__ import annotations

import math
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A range that takes `nan` and `inf` for what they are: no numbers to count, wait or pay by."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number; give one, or leave the option out.", param, ctx)
        return number

"""Curves that never grow beyond a number of points, however long a session lasts.

All curves share their points. A point gathers one sample at first; when there are POINTS of them, each two become
one, and from then on a point gathers twice as many samples. Means are weighted by time; the largest sample of a point
stays known, so a spike is never averaged away.
"""

from __future__ import annotations

from collections.abc import Mapping

from tokenmill.footprint import Curve

POINTS = 600
#: Digits after the decimal point that are kept of a mean; sizes in bytes are whole.
DIGITS = 2
#: Seconds below which a difference of two readings says nothing of a rate: counters move in steps of hundredths.
SHORTEST = 0.2

Cell = tuple[float, float, float]  # seconds it stands for, mean, largest


class Curves:
    """Curves by name, as they grow; a name that was never heard of has nothing yet."""

    def __init__(self, start: float, points: int = POINTS) -> None:
        assert points >= 2, "two points become one"
        assert points % 2 == 0, "two points become one"
        self.start = start
        self.times: list[float] = []
        self._limit = points
        self._stride = 1
        self._gathered = 0
        self._cells: dict[str, list[Cell | None]] = {}
        self._last = start

    def add(self, now: float, values: Mapping[str, float | None]) -> None:
        """One sample of every curve, at `now` or over the time since the last; names left out had none."""
        seconds, self._last = now - self._last, now
        if self._gathered == self._stride or not self.times:
            if len(self.times) == self._limit:
                self._halve()
            self.times.append(now)
            for cells in self._cells.values():
                cells.append(None)
            self._gathered = 0
        self.times[-1] = now
        self._gathered += 1
        for name, value in values.items():
            cells = self._cells.setdefault(name, [None] * len(self.times))
            if value is not None:
                cells[-1] = _joined(cells[-1], (max(seconds, 1e-9), value, value))

    def curve(self, name: str, unit: str, reason: str = "") -> Curve:
        """The curve so far; `reason` says why it has gaps, or nothing at all."""
        cells = self._cells.get(name, [])
        digits = None if unit == "B" else DIGITS
        return Curve(
            unit=unit,
            means=tuple(None if cell is None else round(cell[1], digits) for cell in cells),
            maxima=tuple(None if cell is None else round(cell[2], digits) for cell in cells),
            reason=reason,
        )

    def _halve(self) -> None:
        """Every two points become one."""
        self.times = self.times[1::2]
        self._cells = {
            name: [_joined(*pair) for pair in zip(cells[::2], cells[1::2], strict=True)]
            for name, cells in self._cells.items()
        }
        self._stride *= 2


def _joined(one: Cell | None, other: Cell | None) -> Cell | None:
    if one is None or other is None:
        return one or other
    seconds = one[0] + other[0]
    return seconds, (one[0] * one[1] + other[0] * other[1]) / seconds, max(one[2], other[2])

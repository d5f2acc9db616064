"""Time as a value: everything that waits or measures is handed a clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds since an arbitrary start; never goes back."""

    def now(self) -> float: ...


class MonotonicClock:
    """The machine's monotonic clock, counted from the moment of construction."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def now(self) -> float:
        return time.monotonic() - self._start


class ManualClock:
    """A clock that moves only when told to; for simulation and tests."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance_to(self, moment: float) -> None:
        """Moves to `moment`; a moment in the past is a bug of the caller."""
        assert moment >= self._now, f"the clock can't go back from {self._now} to {moment}"
        self._now = moment

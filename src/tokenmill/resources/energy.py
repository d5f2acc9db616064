"""From counters and powers to joules. Nothing is read here."""

from __future__ import annotations

from tokenmill.resources.curves import SHORTEST

WENT_BACK = "its counter went back, as it does when the driver is loaded again"
NEVER = "it was read less than twice"


class Counted:
    """Energy from a counter that only grows; `step` is how many joules one count is.

    A counter that begins again at 0 after `range` counts is followed across that. One that goes back and has no known
    range makes the whole unknown. Reads that failed lose nothing, as the next one holds their part too.
    """

    def __init__(self, step: float, range: int | None = None) -> None:
        self._step = step
        self._range = range
        self._last: int | None = None
        self._last_time = 0.0
        self._counts = 0
        self._reads = 0
        self._fault = ""

    def add(self, now: float, count: int | None) -> float | None:
        """Takes a reading; returns the mean power since the one before, watts, if enough time has passed."""
        if count is None or self._fault:
            return None
        before, self._last = self._last, count
        since, self._last_time = self._last_time, now
        self._reads += 1
        if before is None:
            return None
        grown = count - before
        if grown < 0:
            if self._range is None:
                self._fault = WENT_BACK
                return None
            grown += self._range
        self._counts += grown
        return grown * self._step / (now - since) if now - since >= SHORTEST else None

    def joules(self) -> tuple[float | None, str]:
        """All since the first reading, or None with the reason."""
        if self._fault or self._reads < 2:
            return None, self._fault or NEVER
        return self._counts * self._step, ""


class Integrated:
    """Energy from powers read now and then: the area under straight lines from one to the next."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._joules = 0.0
        self._reads = 0

    def add(self, now: float, watts: float | None) -> float | None:
        """Takes a reading and returns it."""
        if watts is None:
            return None
        if self._last is not None:
            then, before = self._last
            self._joules += (before + watts) / 2 * (now - then)
        self._last = now, watts
        self._reads += 1
        return watts

    def joules(self) -> tuple[float | None, str]:
        """All since the first reading, or None with the reason."""
        return (self._joules, "") if self._reads >= 2 else (None, NEVER)

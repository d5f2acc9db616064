"""Asks to be woken for the earliest of several waits, once."""

from __future__ import annotations

from tokenmill.event import WakeAt

#: Seconds by which a timer may ring early; clocks and timers don't count in the same steps.
SLACK = 0.001


class Alarm:
    """The wake-ups that are asked for and still to come, the earliest last.

    A `Woke` may be meant for somebody else, since the strategies of a run share one clock. So only the moment that was
    asked for ends a request; else each foreign wake-up would ask again, and the wake-ups would multiply.
    """

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending: list[float] = []

    def rang(self, time: float) -> None:
        """A `Woke` came."""
        while self._pending and self._pending[-1] <= time + SLACK:
            self._pending.pop()

    def set(self, due: float) -> list[WakeAt]:
        """The action that asks for this moment; none if one as early was asked for already."""
        if self._pending and self._pending[-1] <= due:
            return []
        self._pending.append(due)
        return [WakeAt(due)]

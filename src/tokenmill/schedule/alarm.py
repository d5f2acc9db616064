"""Asks to be woken for the earliest of several waits, once."""

from __future__ import annotations

from tokenmill.event import WakeAt

#: Seconds by which a timer may ring early; clocks and timers don't count in the same steps.
SLACK = 0.001


class Alarm:
    """The wake-up that is asked for.

    A `Woke` may be meant for somebody else, since the strategies of a run share one clock. So only the moment that was
    asked for clears the request; else each foreign wake-up would ask again, and the wake-ups would multiply.
    """

    __slots__ = ("_set",)

    def __init__(self) -> None:
        self._set: float | None = None

    def rang(self, time: float) -> None:
        """A `Woke` came."""
        if self._set is not None and self._set <= time + SLACK:
            self._set = None

    def set(self, due: float) -> list[WakeAt]:
        """The action that asks for this moment; none if one as early was asked for already."""
        if self._set is not None and self._set <= due:
            return []
        self._set = due
        return [WakeAt(due)]

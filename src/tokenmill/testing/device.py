"""A device shared by all that runs on it, with a pace that falls with load; pure, the time is given.

Everything that runs progresses at one pace, so one number, `done`, says how many seconds of work each has had since the
start; a piece of work is due when `done` reaches its target. A change in the number of requests changes how fast `done`
grows and nothing else, so the model is exact however often that happens.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Any

from tokenmill.testing.behaviour import Curve

#: Work that is this close to done is done: sums of floats don't meet their targets exactly.
CLOSE = 1e-7


class Device:
    """Work in seconds, as it would take alone; `owner` is whichever server sends it."""

    def __init__(self, curve: Curve) -> None:
        self._curve = curve
        self._done = 0.0
        self._at = 0.0
        self._pace = 1.0
        self._owners: Counter[int] = Counter()
        self._running = 0
        self._heap: list[tuple[float, int, Any]] = []
        self._pushed = 0

    def join(self, now: float, owner: int) -> None:
        """One more request of a server runs here."""
        self._settle(now)
        self._owners[owner] += 1
        self._running += 1
        self._set_pace()

    def leave(self, now: float, owner: int) -> None:
        """One request of a server ends here; what it has not done yet is dropped by whoever sent it."""
        self._settle(now)
        self._owners[owner] -= 1
        if not self._owners[owner]:
            del self._owners[owner]
        self._running -= 1
        self._set_pace()

    def bend(self, now: float, curve: Curve) -> None:
        """The device behaves otherwise from now on."""
        self._settle(now)
        self._curve = curve
        self._set_pace()

    def add(self, now: float, seconds: float, item: Any, after: float | None = None) -> None:
        """Puts in work; `item` comes back when it is done. `after` is the target it follows, so that lateness of the
        caller doesn't add up."""
        self._settle(now)
        self._pushed += 1
        start = self._done if after is None else after
        heapq.heappush(self._heap, (start + seconds, self._pushed, item))

    def due(self, now: float) -> list[tuple[float, Any]]:
        """What is done by now, with its target, in the order in which it was."""
        self._settle(now)
        found = []
        while self._heap and self._heap[0][0] <= self._done + CLOSE:
            target, _, item = heapq.heappop(self._heap)
            found.append((target, item))
        return found

    def next_at(self) -> float | None:
        """When the next piece of work is done, if nothing changes."""
        if not self._heap:
            return None
        return self._at + max(0.0, self._heap[0][0] - self._done) / self._pace

    def _settle(self, now: float) -> None:
        if now > self._at:
            self._done += (now - self._at) * self._pace
            self._at = now

    def _set_pace(self) -> None:
        self._pace = self._curve.share(self._running, len(self._owners))

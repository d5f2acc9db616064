"""A deadline kept while something is awaited, which doesn't blame the node for a standstill of this process.

When a laptop wakes, or a stopped process goes on, all timers are due at once while the bytes that came meanwhile
still wait in the socket. A timer that fires that late winds its clock up again instead.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

import aiohttp

from tokenmill.engine.http.clocks import Deadline

#: A clock that runs out so many seconds late shows that this process stood still, not the node.
STANDSTILL = 1.0


class Watch:
    """`async with Watch(deadline):` raises `TimeoutError` in its body once the deadline has passed."""

    __slots__ = ("_deadline", "_limit", "_loop", "_timer")

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._timer = self._loop.call_at(self._deadline.due, self._ring)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _ring(self) -> None:
        now = self._loop.time()
        late = now - self._deadline.due
        if late < STANDSTILL:
            self._limit.reschedule(now)
            return
        self._deadline.sleep(late + STANDSTILL)
        self._timer = self._loop.call_at(self._deadline.due, self._ring)


class Guard:
    """Ends the reading of a body once the deadline has passed.

    It has one timer for the whole body and moves it when it rings, not with every token: that would cost more than
    reading the token does.
    """

    __slots__ = ("_content", "_deadline", "_due", "_loop", "_timer", "has_rung")

    def __init__(self, deadline: Deadline, content: aiohttp.StreamReader) -> None:
        self.has_rung = False
        self._deadline = deadline
        self._content = content
        self._loop = asyncio.get_running_loop()
        self._set()

    def check(self) -> None:
        """Follows a deadline that came nearer, as it does when the first token has come."""
        if self._deadline.due < self._due:
            self._timer.cancel()
            self._set()

    def cancel(self) -> None:
        self._timer.cancel()

    def _ring(self) -> None:
        late = self._loop.time() - self._due
        if late >= STANDSTILL:
            self._deadline.sleep(late + STANDSTILL)
        if self._deadline.due > self._loop.time():
            self._set()
            return
        self.has_rung = True
        self._content.set_exception(TimeoutError())

    def _set(self) -> None:
        self._due = self._deadline.due
        self._timer = self._loop.call_at(self._due, self._ring)

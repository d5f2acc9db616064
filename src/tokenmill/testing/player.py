"""Sends the steps of a wire at their times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tokenmill.testing.connection import WRITE_AT_ONCE, Connection
from tokenmill.testing.ticker import Ticker
from tokenmill.testing.wire import Wire


class Player:
    """Plays one wire on one connection; `over` is told once, with whether the client left before the end.

    Without a device, work takes the time it would take alone. `slow` is how many times as long all work takes.
    """

    __slots__ = (
        "_connection",
        "_full",
        "_is_over",
        "_over",
        "_pending",
        "_target",
        "_ticker",
        "_timer",
        "_wire",
        "slow",
    )

    def __init__(self, connection: Connection, ticker: Ticker | None, over: Callable[[bool], None]) -> None:
        self._connection = connection
        self._ticker = ticker
        self._over = over
        self.slow = 1.0
        self._wire: Wire | None = None
        self._pending = b""
        self._target: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = self._full = False

    def play(self, wire: Wire) -> None:
        self._wire = wire
        self._advance()

    def worked(self, target: float) -> None:
        """The work before the next bytes is done."""
        if not self._is_over:
            self._target = target
            self._advance()

    def resume(self) -> None:
        """The connection takes bytes again."""
        if self._full:
            self._full = False
            self._advance()

    def abandon(self) -> None:
        """The client is gone."""
        self._end(cancelled=True)

    def _end(self, *, cancelled: bool) -> None:
        if not self._is_over:
            self._is_over = True
            if self._timer is not None:
                self._timer.cancel()
            self._over(cancelled)

    def _waited(self) -> None:
        self._timer = None
        self._advance()

    def _advance(self) -> None:
        """Sends all that is due now, in one write if it isn't large."""
        wire, write = self._wire, self._connection.write
        assert wire is not None, "only what is played advances"
        out, size = [self._pending], len(self._pending)
        self._pending = b""
        for work, wait, data in wire.steps:
            if work > 0 or wait > 0:
                self._pending = data
                write(b"".join(out))
                self._delay(work, wait)
                return
            out.append(data)
            size += len(data)
            if size >= WRITE_AT_ONCE:
                write(b"".join(out))
                out, size = [], 0
                if self._connection.is_full or self._is_over:
                    self._full = True
                    return
        write(b"".join(out))
        if wire.ending != "hang":
            self._end(cancelled=False)
            self._connection.end(wire.ending)

    def _delay(self, work: float, wait: float) -> None:
        if work > 0 and self._ticker is not None:
            self._ticker.add(work * self.slow, self, self._target)
        else:
            self._target = None
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(work * self.slow + wait, self._waited)

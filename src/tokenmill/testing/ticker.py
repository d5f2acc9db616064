"""A device on the event loop: one timer for all that runs there."""

from __future__ import annotations

import asyncio
from typing import Protocol

from tokenmill.testing.behaviour import Curve
from tokenmill.testing.device import Device


class Worker(Protocol):
    """Whoever has work done; `target` is to be named when more work follows."""

    def worked(self, target: float) -> None: ...


class Ticker:
    """Tells each worker when its work is done."""

    def __init__(self, curve: Curve, loop: asyncio.AbstractEventLoop) -> None:
        self._device = Device(curve)
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0

    def join(self, owner: int) -> None:
        self._device.join(self._loop.time(), owner)
        self._arm()

    def leave(self, owner: int) -> None:
        self._device.leave(self._loop.time(), owner)
        self._arm()

    def bend(self, curve: Curve) -> None:
        self._device.bend(self._loop.time(), curve)
        self._arm()

    def add(self, seconds: float, worker: Worker, after: float | None) -> None:
        self._device.add(self._loop.time(), seconds, worker, after)
        self._arm()

    def _arm(self) -> None:
        """A timer that fires too early only looks again, so one is replaced only if it would fire too late."""
        when = self._device.next_at()
        if when is None or (self._timer is not None and self._armed <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = when
        self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for target, worker in self._device.due(self._loop.time()):
            worker.worked(target)
        self._arm()

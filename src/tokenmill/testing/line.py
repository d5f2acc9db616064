"""The slots of one server, those who wait for them, and the model in its memory; pure, the time is given.

First come, first served. A model is loaded by the first who needs it, once those who use another one, or the same with
another context, have ended; all wait for it.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from msgspec import Struct


class Waiter(Protocol):
    """A request as the line sees it: the model and context it needs, and who is told that it starts."""

    model: str
    num_ctx: int


class Loaded(Struct):
    """A model in memory from `ready` on; it goes at `expires` unless in use, None if that isn't known yet."""

    model: str
    num_ctx: int
    ready: float
    expires: float | None


class Line:
    """Who runs, who waits, and what is loaded."""

    def __init__(self, slots: int, queue: int | None, load: float) -> None:
        self.slots = slots
        self.queue = queue
        self.load = load
        self.loaded: Loaded | None = None
        self.running: set[Waiter] = set()
        self.waiting: deque[Waiter] = deque()

    @property
    def has_room(self) -> bool:
        """Whether another request may come, to run or to wait."""
        return len(self.running) < self.slots or self.queue is None or len(self.waiting) < self.queue

    def leave(self, request: Waiter) -> None:
        """A request has ended or gave up."""
        if request in self.running:
            self.running.remove(request)
        else:
            self.waiting.remove(request)

    def next(self, now: float) -> tuple[Waiter, float, bool] | None:
        """The next request that may start now, when it may begin to work, and whether it has the model loaded."""
        if not self.waiting or len(self.running) >= self.slots:
            return None
        request = self.waiting[0]
        is_loading = not self._fits(request, now)
        if is_loading:
            if self.running:
                return None
            self.loaded = Loaded(request.model, request.num_ctx, now + self.load, None)
        self.waiting.popleft()
        self.running.add(request)
        assert self.loaded is not None, "a request starts on a loaded model"
        return request, max(now, self.loaded.ready), is_loading

    def preload(self, model: str, num_ctx: int, now: float) -> None:
        """Loads a model that nobody needs yet, unless it is there or another is in use."""
        held = self.holds(now)
        if not self.running and (held is None or (held.model, held.num_ctx) != (model, num_ctx)):
            self.loaded = Loaded(model, num_ctx, now + self.load, None)

    def unload(self) -> None:
        """The model leaves memory; what runs, ends as if it were there."""
        self.loaded = None

    def keep(self, now: float, seconds: float) -> None:
        """The model stays for `seconds` after its last use; negative is for ever, 0 not at all."""
        if self.loaded is not None and not self.running:
            self.loaded.expires = math.inf if seconds < 0 else max(now, self.loaded.ready) + seconds

    def holds(self, now: float) -> Loaded | None:
        """The model in memory now."""
        held = self.loaded
        if held is not None and not self.running and held.expires is not None and held.expires <= now:
            self.loaded = None
        return self.loaded

    def _fits(self, request: Waiter, now: float) -> bool:
        held = self.holds(now)
        return held is not None and held.model == request.model and held.num_ctx == request.num_ctx

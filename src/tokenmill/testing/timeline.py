"""Changes that come by themselves: at a time, again and again, or with a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tokenmill.testing.behaviour import Change


class Timeline:
    """Applies the changes of a behaviour when their moment has come."""

    def __init__(
        self, changes: Sequence[Change], loop: asyncio.AbstractEventLoop, apply: Callable[[Change], None]
    ) -> None:
        self._loop = loop
        self._apply = apply
        self._by_request = {change.request: change for change in changes if change.request is not None}
        now = loop.time()
        for change in changes:
            if change.at is not None:
                loop.call_at(now + change.at, self._happen, change, now + change.at)

    def count(self, number: int) -> None:
        """The request for text of this number has come."""
        change = self._by_request.get(number)
        if change is not None:
            self._apply(change)

    def _happen(self, change: Change, when: float) -> None:
        self._apply(change)
        if change.every is not None:
            self._loop.call_at(when + change.every, self._happen, change, when + change.every)

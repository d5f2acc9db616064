"""Gives each node no more requests than it was found to handle; the strategy inside sees a node that grows and shrinks.

`Limited` goes right around the strategy that chooses rows, inside `Supervisor`: it needs to know all that is in flight
on behalf of that strategy, and nothing of failures. What the driver or a `Fleet` says of a node's slots is the ceiling.
A node that offers look-ahead has told how many it runs and queues the rest by itself, so it is left alone.
"""

from __future__ import annotations

from msgspec.structs import replace

from tokenmill.event import (
    Action,
    Cancelled,
    Dispatch,
    Event,
    Failed,
    Finished,
    FirstToken,
    NodeLost,
    NodeUp,
    Paced,
    Resized,
)
from tokenmill.schedule.limit import Limit
from tokenmill.schedule.strategy import Strategy


class Limited:
    """Turns first tokens, progress and answers into `Resized` for the strategy `inner`."""

    def __init__(self, inner: Strategy) -> None:
        self.inner = inner
        self._limits: dict[int, Limit] = {}
        self._shown: dict[int, tuple[int, int]] = {}  # slots and look-ahead told to the inner strategy
        self._where: dict[int, int] = {}

    def places(self, node: int) -> int | None:
        """How many requests may be in flight there now, None for a node without a limit."""
        return sum(self._shown[node]) if node in self._shown else None

    def on_event(self, event: Event, /) -> list[Action]:
        match event:
            case FirstToken(row=row, node=node) if self._where.get(row) == node:
                self._limits[node].first_token(row, event.time)
                return self._show(node, event.time)
            case Paced(row=row, node=node) if self._where.get(row) == node:
                self._limits[node].paced(row, event.time, event.chunks)
                return self._show(node, event.time)
            case NodeUp(node=node) if event.look_ahead == 0:
                return self._came_up(event)
            case Resized(node=node) if event.look_ahead and node in self._shown:
                del self._shown[node]
            case Resized(node=node) if node in self._shown:
                self._limits[node].ceiling = event.slots
                return self._show(node, event.time)
            case NodeLost(node=node) if self._shown.pop(node, None) is not None:
                self._limits[node].restart()
            case Finished(row=row, node=node) | Failed(row=row, node=node) | Cancelled(row=row, node=node) if (
                self._where.pop(row, None) == node
            ):
                self._end(event)
                return self._show(node, event.time) + self._forward(event)
        return self._forward(event)

    def _came_up(self, event: NodeUp) -> list[Action]:
        limit = self._limits.setdefault(event.node, Limit(event.slots))
        limit.ceiling = event.slots
        self._shown[event.node] = slots, look_ahead = limit.shape
        return self._forward(replace(event, slots=slots, look_ahead=look_ahead))

    def _end(self, event: Finished | Failed | Cancelled) -> None:
        limit = self._limits[event.node]
        chunks = None
        if isinstance(event, Finished):
            chunks = event.answer.chunks or event.answer.output_tokens
        elif isinstance(event, Failed) and event.kind == "busy":
            limit.refused()
        limit.ended(event.row, event.time, chunks)

    def _show(self, node: int, time: float) -> list[Action]:
        """Tells the inner strategy if the limit is another by now, before it hears of an end."""
        shape = self._limits[node].shape
        if self._shown.get(node, shape) == shape:
            return []
        self._shown[node] = shape
        return self._forward(Resized(time, node, *shape))

    def _forward(self, event: Event) -> list[Action]:
        actions = self.inner.on_event(event)
        for action in actions:
            if isinstance(action, Dispatch) and action.node in self._shown:
                self._where[action.row] = action.node
                self._limits[action.node].sent(action.row, event.time)
        return actions

"""One row at a time: the baseline that every speedup is measured against."""

from __future__ import annotations

from tokenmill.event import Action, Arrived, Cancelled, Dispatch, Event, Failed, Finished, NodeLost, NodeUp
from tokenmill.schedule.order import Order


class Sequential:
    """Never has two rows in flight, whatever the nodes offer; uses the lowest-numbered node that is up.

    A row that ran on a lost node counts as running until its own end is reported, so a node that only seems lost
    can't make it two.
    """

    def __init__(self, order: Order) -> None:
        self._waiting = order
        self._nodes: set[int] = set()
        self._running: int | None = None

    def on_event(self, event: Event, /) -> list[Action]:
        match event:
            case Arrived(row=row, length=length, group=group):
                self._waiting.push(row, length, group)
            case Finished(row=row) | Failed(row=row) | Cancelled(row=row):
                self._waiting.ended(row, event.answer.output_tokens if isinstance(event, Finished) else None)
                if row == self._running:
                    self._running = None
            case NodeUp(node=node):
                self._nodes.add(node)
            case NodeLost(node=node):
                self._nodes.discard(node)
        if self._running is not None or not self._nodes or not self._waiting:
            return []
        self._running = self._waiting.pop()
        return [Dispatch(self._running, min(self._nodes))]

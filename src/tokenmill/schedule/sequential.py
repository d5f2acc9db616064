"""One row at a time: the baseline that every speedup is measured against."""

from __future__ import annotations

from tokenmill.event import Action, Arrived, Cancelled, Dispatch, Event, Failed, Finished, NodeLost, NodeUp, Resized
from tokenmill.schedule.order import Order


class Sequential:
    """Never has two rows in flight, whatever the nodes offer; uses the lowest-numbered node that is up.

    A row that ran on a lost node counts as running until its own end is reported, so a node that only seems lost
    can't make it two.
    """

    heeds_progress = False

    def __init__(self, order: Order) -> None:
        self._waiting = order
        self._waiting.spread(1)
        self._nodes: dict[int, int] = {}  # slots
        self._running: int | None = None

    def on_event(self, event: Event, /) -> list[Action]:
        match event:
            case Arrived(row=row, length=length, group=group):
                self._waiting.push(row, length, group)
            case Finished(row=row) | Failed(row=row) | Cancelled(row=row):
                self._waiting.ended(row, event.answer.output_tokens if isinstance(event, Finished) else None)
                if row == self._running:
                    self._running = None
            case NodeUp(node=node, slots=slots):
                self._nodes[node] = slots
            case Resized(node=node, slots=slots) if node in self._nodes:
                self._nodes[node] = slots
            case NodeLost(node=node):
                self._nodes.pop(node, None)
        if self._running is not None or not self._waiting:
            return []
        nodes = [node for node, slots in self._nodes.items() if slots]
        if not nodes:
            return []
        self._running = self._waiting.pop()
        return [Dispatch(self._running, min(nodes))]

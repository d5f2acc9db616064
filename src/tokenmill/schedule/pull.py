"""One queue for all; a place that becomes free takes the next row."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from tokenmill.event import Action, Arrived, Cancelled, Dispatch, Event, Failed, Finished, NodeLost, NodeUp, Resized
from tokenmill.schedule.order import Order


class _Station:
    """A node as `Pull` sees it: `places` are its slots and its look-ahead, 0 while it has no slots.

    `pace` are seconds per output token of its last answers, 0 before the first.
    """

    __slots__ = ("busy", "pace", "places", "rank", "slots")

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.slots = self.places = self.busy = 0
        self.pace = 0.0

    def resize(self, slots: int, look_ahead: int) -> None:
        self.slots = slots
        self.places = slots + look_ahead if slots else 0

    @property
    def turn(self) -> _Turn:
        """The smaller is served first. With all slots taken, a further row has to wait inside the node."""
        load = self.busy / max(self.slots, 1)
        return (self.busy >= self.slots, self.rank, self.pace * (1 + load), load)

    def answered(self, pace: float) -> None:
        self.pace += (pace - self.pace) * (SMOOTHING if self.pace else 1)


#: How much of the pace one answer changes.
SMOOTHING = 1 / 8
#: Whether its slots are taken, its rank, how long a row would take there, its load.
_Turn = tuple[bool, int, float, float]


def by_load(up: NodeUp) -> int:  # noqa: ARG001 - one signature for all ranks of nodes
    """All nodes are equal, so the least loaded is next."""
    return 0


def by_priority(up: NodeUp) -> int:
    """The nodes of a smaller priority first."""
    return up.priority


def by_gpu(up: NodeUp) -> int:
    """Nodes that compute on a GPU first."""
    return 0 if up.gpu else 1


class Pull:
    """Every row goes to the quickest node that has a place free: by the pace of its last answers, and its load.

    Which node it is matters only while places are left over; so the last rows go where they end soonest. Without
    `by_pace`, and before the first answers, the least loaded is next (the lowest number among equals). Nodes of a lower
    rank, if they are ranked, go first whatever their pace. Free slots come before look-ahead, wherever they are. With
    several nodes up, rows are queued ahead only while more wait than there are slots: the last ones stay here, for
    whichever node is free first.
    """

    heeds_progress = False

    def __init__(self, order: Order, rank: Callable[[NodeUp], int] = by_load, *, by_pace: bool = True) -> None:
        self._waiting = order
        self._rank = rank
        self._by_pace = by_pace
        self._stations: dict[int, _Station] = {}
        self._running: dict[int, tuple[int, _Station, float]] = {}  # with the time of its dispatch
        self._open: list[tuple[_Turn, int]] = []  # (turn, node); void when the node's turn is another by now
        self._kept_back = 0
        self._slots: dict[int, int] = {}  # of the nodes that have any
        self._all_slots = 0
        self._returning: dict[int, Arrived] = {}  # rows that arrived again before their attempt has ended

    def on_event(self, event: Event, /) -> list[Action]:
        match event:
            case Arrived(row=row) if row in self._running:
                self._returning[row] = event
            case Arrived(row=row, length=length, group=group):
                self._waiting.push(row, length, group)
            case Finished(row=row, answer=answer):
                self._waiting.ended(row, answer.output_tokens)
                self._free(row, event)
            case Failed(row=row) | Cancelled(row=row):
                self._waiting.ended(row, None)
                self._free(row)
            case NodeUp(node=node):
                assert node not in self._stations, f"node {node} is up already"
                self._stations[node] = _Station(self._rank(event))
                self._resize(event)
            case Resized(node=node) if node in self._stations:
                self._resize(event)
            case NodeLost(node=node):
                self._stations.pop(node, None)
                self._keep_back(node, 0)
        return self._fill(event.time) if self._open and self._waiting else []

    def _free(self, row: int, end: Finished | None = None) -> None:
        """Frees the row's place. That of a lost node enters a turn which no station has, or which is true anyway."""
        if again := self._returning.pop(row, None):
            self._waiting.push(row, again.length, again.group)
        node, station, since = self._running.pop(row, (0, None, 0.0))
        if station is not None:
            station.busy -= 1
            if end is not None and self._by_pace:
                station.answered((end.time - since) / max(1, end.answer.output_tokens))
            self._list(node, station)

    def _resize(self, event: NodeUp | Resized) -> None:
        station = self._stations[event.node]
        station.resize(event.slots, event.look_ahead)
        self._list(event.node, station)
        self._keep_back(event.node, station.slots)

    def _keep_back(self, node: int, slots: int) -> None:
        """A node has so many slots now. It is counted alone: with thousands of nodes, all of them come up at once."""
        self._all_slots += slots - self._slots.pop(node, 0)
        if slots:
            self._slots[node] = slots
        self._kept_back = self._all_slots if len(self._slots) > 1 else 0
        self._waiting.spread(self._all_slots, self._slots)

    def _list(self, node: int, station: _Station) -> None:
        heappush(self._open, (station.turn, node))
        if len(self._open) > 4 * len(self._stations) + 64:
            free = self._stations.items()
            self._open = [(here.turn, number) for number, here in free if here.busy < here.places]
            heapify(self._open)

    def _fill(self, time: float) -> list[Action]:
        actions: list[Action] = []
        while self._open and self._waiting:
            turn, node = self._open[0]
            station = self._stations.get(node)
            if station is None or station.turn != turn or station.busy >= station.places:
                heappop(self._open)
                continue
            if turn[0] and len(self._waiting) <= self._kept_back:
                break
            heappop(self._open)
            row = self._waiting.pop(node)
            station.busy += 1
            self._running[row] = (node, station, time)
            actions.append(Dispatch(row, node))
            if station.busy < station.places:
                heappush(self._open, (station.turn, node))
        return actions

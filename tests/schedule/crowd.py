"""A driver in small for the tests of strategies: nodes change at random, and it checks each dispatch."""

from __future__ import annotations

from hypothesis import strategies as st

from schedule.stories import arrive, cancelled, finished, resized, up
from tokenmill.event import Dispatch, Event, FirstToken, NodeLost, Paced, WakeAt, Woke, group_of
from tokenmill.schedule import Fleet, Strategy

NODES = 3
#: Two beginnings that are shared, and none.
GROUPS = (group_of(1, 1), group_of(2, 1), 1)


def upheavals() -> st.SearchStrategy[list[tuple[str, int, int, int]]]:
    """What happens, and three numbers that say where and how much."""
    kinds = st.sampled_from(["arrive", "end", "end", "end", "cancel", "resize", "resize", "up", "lose", "progress"])
    return st.lists(st.tuples(kinds, st.integers(0, 5), st.integers(0, 4), st.integers(0, 2)), max_size=60)


class Crowd:
    """Rows and nodes as the driver sees them."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.places: dict[int, int] = {}
        self.flying: dict[int, int] = {}  # row: node
        self.leases: dict[int, int] = {}
        self.arrived: list[int] = []
        self.ended: list[int] = []
        self.now = 0.0

    def suffer(self, kind: str, which: int, many: int, more: int) -> None:
        node = which % NODES
        match kind:
            case "arrive":
                self._arrive(many + 1)
            case "end" if self.flying:
                self._end(sorted(self.flying)[which % len(self.flying)])
            case "cancel" if self.flying:
                self._cancel(sorted(self.flying)[which % len(self.flying)])
            case "progress" if self.flying:
                row = sorted(self.flying)[which % len(self.flying)]
                told = (self.now, row, self.flying[row], self.leases[row])
                self._tell(Paced(*told, 2 << many) if many else FirstToken(*told))
            case "resize" if node in self.places:
                self._set_places(node, many, more)
                self._tell(resized(node, many, more, time=self.now))
            case "up" if node not in self.places:
                self._set_places(node, max(many, 1), more)
                self._tell(up(node, max(many, 1), more, time=self.now))
            case "lose" if node in self.places:
                self._lose(node)

    def calm_down(self) -> None:
        """One node stays up, and everything ends."""
        self.suffer("up", 0, 1, 0)
        self.suffer("resize", 0, 1, 0)
        while self.flying:
            self._end(min(self.flying))
        self.ended.sort()

    def _tell(self, event: Event) -> None:
        wakes = []
        for action in self.strategy.on_event(event):
            match action:
                case Dispatch(row=row, node=node):
                    self._send(row, node)
                case WakeAt(time=time):
                    wakes.append(time)
                case _:
                    raise AssertionError(f"nobody asked for {action}")
        for time in wakes:
            self.now = max(self.now, time)
            self._tell(Woke(self.now))

    def _send(self, row: int, node: int) -> None:
        assert row not in self.flying, f"row {row} flies already"
        assert row not in self.ended, f"row {row} was answered"
        there = sum(where == node for where in self.flying.values())
        assert there < self.places.get(node, 0), f"node {node} is full"
        self.flying[row] = node
        self.leases[row] = self.leases.get(row, 0) + 1

    def _arrive(self, count: int) -> None:
        rows = range(len(self.arrived), len(self.arrived) + count)
        self.arrived.extend(rows)
        for row in rows:
            self._tell(*arrive(row, group=GROUPS[row % len(GROUPS)], time=self.now))

    def _end(self, row: int) -> None:
        self.now += 1.0
        node = self.flying.pop(row)
        self.ended.append(row)
        self._tell(finished(row, node, lease=self.leases[row], time=self.now))

    def _cancel(self, row: int) -> None:
        """The row comes back at once: with failure policy by itself, else from here."""
        node, lease = self.flying.pop(row), self.leases[row]
        self._tell(cancelled(row, node, lease=lease, time=self.now))
        if not isinstance(self.strategy, Fleet):
            self._tell(*arrive(row, group=GROUPS[row % len(GROUPS)], time=self.now))

    def _lose(self, node: int) -> None:
        """What runs there ends first; what was sent there in between ends later."""
        self._cancel_all(node)
        del self.places[node]
        self._tell(NodeLost(self.now, node))
        self._cancel_all(node)

    def _cancel_all(self, node: int) -> None:
        for row in [row for row, where in self.flying.items() if where == node]:
            self._cancel(row)

    def _set_places(self, node: int, slots: int, look_ahead: int) -> None:
        self.places[node] = slots + look_ahead if slots else 0

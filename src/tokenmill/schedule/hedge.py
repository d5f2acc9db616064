"""A second attempt for the last stragglers, on another node; the first committed answer wins.

Hedging pays only at the tail, when places are free and nothing waits, and only for a row that takes longer than all
but a few did (Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013: wait for the 95th percentile, so that the added
load stays small). What a row may take is judged by seconds per expected token, so a long answer is no straggler.

`Hedged` is a `Strategy` around another, which never learns of the second attempt: it hears of one end for each row it
dispatched, on the node it chose. While a node runs something the inner strategy doesn't know of, that node is shown to
it with one slot less. A failure of the first attempt says nothing while the second still runs. The driver ends the
loser once the winner's answer is committed; until then its place counts as taken.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

import msgspec
from msgspec import Struct

from tokenmill.event import (
    PROGRESS,
    Action,
    Answer,
    Arrived,
    Cancelled,
    Dispatch,
    Event,
    Failed,
    Finished,
    NodeLost,
    NodeUp,
    Resized,
    SetAside,
    Woke,
)
from tokenmill.schedule.alarm import Alarm
from tokenmill.schedule.strategy import Strategy

Ended = Finished | Failed | Cancelled
#: How much of a node's pace one answer changes.
SMOOTHING = 1 / 8


class HedgePolicy(Struct, frozen=True, kw_only=True):
    """When a second attempt is worth its tokens.

    `quantile`: a row is late once it took longer than this share of the answers before it. `budget`: tokens spent on
    second attempts, as a share of those answered; the first is free of it. `least`: answers needed to know. `window`:
    answers remembered.
    """

    quantile: float = 0.95
    budget: float = 0.02
    least: int = 20
    window: int = 400


class _Node:
    """`slots` as the driver said; `own` of them are taken by attempts that the inner strategy doesn't know of.

    `pace` are seconds per expected token of its last answers, 0 before the first.
    """

    __slots__ = ("busy", "look_ahead", "own", "pace", "slots")

    def __init__(self, slots: int, look_ahead: int) -> None:
        self.slots, self.look_ahead = slots, look_ahead
        self.busy = self.own = 0
        self.pace = 0.0


class _Leg:
    """A row in flight: where the inner strategy sent it, and where its second attempt runs, if it has one.

    `first_ended`: the first attempt failed or was cancelled, and the row lives on in the second.
    """

    __slots__ = ("first_ended", "hedge", "node", "since", "spent")

    def __init__(self, node: int, since: float) -> None:
        self.node, self.since = node, since
        self.hedge: int | None = None
        self.first_ended = False
        self.spent = False  # a row is hedged once


class Paces:
    """Seconds per expected token of the last answers, and their quantiles in O(log n)."""

    def __init__(self, window: int) -> None:
        self._order: deque[float] = deque()
        self._sorted: list[float] = []
        self._window = window

    def __len__(self) -> int:
        return len(self._order)

    def add(self, pace: float) -> None:
        self._order.append(pace)
        insort(self._sorted, pace)
        if len(self._order) > self._window:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]

    def quantile(self, share: float) -> float:
        return self._sorted[min(len(self._sorted) - 1, int(share * len(self._sorted)))]


class Hedged:
    """Gives stragglers a second attempt; see the module for its rules."""

    heeds_progress = None  # it is the inner strategy's

    def __init__(self, inner: Strategy, policy: HedgePolicy | None = None) -> None:
        self.inner = inner
        self._policy = policy or HedgePolicy()
        self._paces = Paces(self._policy.window)
        self._lengths: dict[int, float] = {}  # rows without a final word
        self._legs: dict[int, _Leg] = {}
        self._resting: set[int] = set()  # rows that failed and wait out their back-off, not for a place
        self._losers: set[tuple[int, int]] = set()  # (row, node) of attempts that came second
        self._nodes: dict[int, _Node] = {}
        self._answered = self._predicted = self._spent = 0.0  # tokens; `_predicted`: of the answered rows
        self._alarm = Alarm()
        self._now = 0.0
        self._actions: list[Action] = []

    def on_event(self, event: Event, /) -> list[Action]:
        self._actions = []
        self._now = max(self._now, event.time)
        if isinstance(event, PROGRESS):
            leg = self._legs.get(event.row)
            if leg is not None and event.node == leg.node:
                self._forward(event)
            return self._actions
        match event:
            case Finished() | Failed() | Cancelled():
                self._ended(event)
            case Arrived(row=row, length=length):
                self._lengths[row] = length
                self._forward(event)
            case NodeUp(node=node, slots=slots, look_ahead=look_ahead):
                self._nodes[node] = _Node(slots, look_ahead)
                self._forward(event)
            case Resized(node=node, slots=slots, look_ahead=look_ahead) if node in self._nodes:
                self._nodes[node].slots, self._nodes[node].look_ahead = slots, look_ahead
                self._show(node)
            case NodeLost(node=node):
                self._nodes.pop(node, None)
                self._forward(event)
            case _:
                if isinstance(event, Woke):
                    self._alarm.rang(event.time)
                self._forward(event)
        if self._legs and len(self._legs) + len(self._resting) == len(self._lengths):  # nothing waits
            self._hedge_the_late()
        return self._actions

    def _forward(self, event: Event) -> None:
        for action in self.inner.on_event(event):
            if isinstance(action, Dispatch):
                self._legs[action.row] = _Leg(action.node, self._now)
                self._resting.discard(action.row)
                self._take(action.node, 1)
            elif isinstance(action, SetAside):
                self._lengths.pop(action.row, None)
                self._resting.discard(action.row)
            self._actions.append(action)

    def _take(self, node: int, count: int) -> None:
        if node in self._nodes:
            self._nodes[node].busy += count

    def _show(self, node: int) -> None:
        """Tells the inner strategy how many slots are left to it."""
        here = self._nodes.get(node)
        if here is not None:
            self._forward(Resized(self._now, node, max(0, here.slots - here.own), here.look_ahead))

    def _occupy(self, node: int, count: int) -> None:
        """An attempt that the inner strategy doesn't know of begins (1) or ends (-1)."""
        here = self._nodes.get(node)
        if here is not None:
            here.own += count
            self._show(node)

    # Ends

    def _ended(self, event: Ended) -> None:
        row, node = event.row, event.node
        if (row, node) in self._losers:
            self._losers.discard((row, node))
            self._take(node, -1)
            self._occupy(node, -1)
            return
        leg = self._legs.get(row)
        if leg is None:
            self._forward(event)
            return
        self._take(node, -1)
        if isinstance(event, Finished):
            self._won(event, leg)
        elif leg.hedge is None:
            self._leave(event, leg)
        elif node == leg.hedge:
            self._occupy(node, -1)
            leg.hedge = None
            if leg.first_ended:  # nothing of the row runs any more
                self._leave(event, leg)
        else:
            leg.first_ended = True

    def _won(self, event: Finished, leg: _Leg) -> None:
        self._note(event.row, event.answer, leg)
        if leg.hedge is not None:
            if event.node == leg.node:
                self._losers.add((event.row, leg.hedge))
            else:
                self._occupy(leg.hedge, -1)
                if not leg.first_ended:
                    self._losers.add((event.row, leg.node))
                    self._occupy(leg.node, 1)
        self._lengths.pop(event.row, None)
        self._leave(event, leg)

    def _leave(self, event: Ended, leg: _Leg) -> None:
        """The inner strategy hears of the end as if it had come from the node it chose, which didn't crash, however."""
        del self._legs[event.row]
        if isinstance(event, Failed):
            self._resting.add(event.row)
        if event.node != leg.node:
            event = msgspec.structs.replace(event, node=leg.node)
            if isinstance(event, Failed) and event.kind == "crash":
                event = msgspec.structs.replace(event, kind="transient", node_at_fault=True)
        self._forward(event)

    def _note(self, row: int, answer: Answer, leg: _Leg) -> None:
        self._answered += max(1, answer.output_tokens)
        self._predicted += max(1.0, self._lengths.get(row, 1.0))
        if leg.hedge is None:
            pace = (self._now - leg.since) / max(1.0, self._lengths.get(row, 1.0))
            self._paces.add(pace)
            if (here := self._nodes.get(leg.node)) is not None:
                here.pace += (pace - here.pace) * (SMOOTHING if here.pace else 1)

    # Stragglers

    def _hedge_the_late(self) -> None:
        if len(self._paces) < self._policy.least:
            return
        late = self._paces.quantile(self._policy.quantile)
        due = sorted(
            (leg.since + late * max(1.0, self._lengths[row]), row)
            for row, leg in self._legs.items()
            if leg.hedge is None and not leg.spent
        )
        for moment, row in due:
            if moment > self._now:
                self._actions += self._alarm.set(moment)
                return
            self._hedge(row)

    def _hedge(self, row: int) -> None:
        leg, cost = self._legs[row], max(1.0, self._lengths[row]) * self._answered / self._predicted
        if self._spent and self._spent + cost > self._policy.budget * self._answered:
            return
        free = [
            (here.pace * (1 + here.busy / here.slots), here.busy / here.slots, number)
            for number, here in self._nodes.items()
            if number != leg.node and here.busy < here.slots
        ]
        if not free:
            return
        *_, leg.hedge = min(free)
        leg.spent = True
        self._spent += cost
        self._take(leg.hedge, 1)
        self._occupy(leg.hedge, 1)
        self._actions.append(Dispatch(row, leg.hedge))

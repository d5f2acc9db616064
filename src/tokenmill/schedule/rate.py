"""Requests and tokens a minute, per node: what hosted servers sell and enforce.

Each node has two token buckets (a bucket fills steadily and is emptied by what is sent; see for instance RFC 2697's
single rate marker). They hold a tenth of a minute's worth, because servers measure over windows shorter than a minute
and answer a burst with 429. A request pays for one request at once and for the tokens that it is expected to take;
when it ends, the difference is settled, also if it brought no answer: what a server wrote before an attempt failed, or
for one that another attempt outran, counts there all the same. What a server's headers say of its limits (`RateSeen`)
corrects ours.

`Rated` is a `Strategy` around another, which it tells with `Resized` how many requests a node may have in flight. It
goes outside of all that sends requests, second attempts and suspects among them, so that each is charged where it runs.
"""

from __future__ import annotations

from math import floor, inf

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.event import (
    Action,
    Arrived,
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
    Woke,
)
from tokenmill.request import RateSeen
from tokenmill.schedule.alarm import Alarm
from tokenmill.schedule.strategy import Strategy

MINUTE = 60.0
#: Share of a minute's worth that a bucket holds.
BURST = 0.1
#: A bucket that is full up to this part of a request counts as full: sums of many small parts are never exact.
ROUNDING = 1e-6


class RateLimits(Struct, frozen=True, kw_only=True):
    """What one node allows in a minute; None is no limit. `tokens` counts those read and those written."""

    requests: float | None = None
    tokens: float | None = None


class Bucket:
    """Fills by `limit` a minute up to its size; may be overdrawn by what turned out dearer than expected."""

    __slots__ = ("_at", "_level", "limit")

    def __init__(self, limit: float | None, now: float) -> None:
        self.limit = limit
        self._at = now
        self._level = self.size

    def level(self, now: float) -> float:
        """What may be taken now."""
        if self.limit is None:
            return inf
        self._level = min(self.size, self._level + (now - self._at) * self.limit / MINUTE)
        self._at = now
        return self._level

    def take(self, amount: float, now: float) -> None:
        """Takes `amount`, or gives it back if it is negative."""
        if self.limit is not None:
            self._level = self.level(now) - amount

    def correct(self, limit: float | None, left: float | None, now: float) -> None:
        """Follows what the server said: its limit, and that no more than `left` are left."""
        if limit is not None and limit > 0:
            level = self.level(now)
            self.limit = limit if self.limit is None else min(self.limit, limit)
            self._level, self._at = min(level, self.size), now
        if left is not None and self.limit is not None:
            self._level = min(self.level(now), left)

    def ready_at(self, amount: float, now: float) -> float:
        """When `amount` may be taken; a bucket is never asked for more than it can hold."""
        missing = min(amount, self.size) - self.level(now)
        return now if missing <= ROUNDING or self.limit is None else now + missing * MINUTE / self.limit

    @property
    def size(self) -> float:
        """What it holds when full."""
        return inf if self.limit is None else max(1.0, self.limit * BURST)


class _Node:
    """`slots` as told from outside, `shown` as told to the inner strategy."""

    __slots__ = ("busy", "look_ahead", "requests", "shown", "slots", "tokens")

    def __init__(self, up: NodeUp, limits: RateLimits) -> None:
        self.slots, self.look_ahead = up.slots, up.look_ahead
        self.requests = Bucket(limits.requests, up.time)
        self.tokens = Bucket(limits.tokens, up.time)
        self.busy = 0
        self.shown = -1


class Rated:
    """Keeps every node within its rate limits; `limits` holds for each node that says nothing else."""

    heeds_progress = None  # it is the inner strategy's

    def __init__(self, inner: Strategy, limits: RateLimits) -> None:
        self.inner = inner
        self._limits = limits
        self._nodes: dict[int, _Node] = {}
        self._flying: dict[tuple[int, int], float] = {}  # (row, node): tokens it was charged for
        self._answers = self._arrived = 0
        self._used = self._promised = 0.0
        self._alarm = Alarm()
        self._touched: set[int] = set()  # nodes whose buckets or places changed since they were last shown
        self._held: set[int] = set()  # nodes that are shown with fewer slots than they have
        self._actions: list[Action] = []

    def on_event(self, event: Event, /) -> list[Action]:
        self._actions = []
        match event:
            case FirstToken() | Paced():
                self._forward(event)
            case NodeUp(node=node):
                self._nodes[node] = _Node(event, self._limits)
                self._come_up(event)
            case Resized(node=node, slots=slots, look_ahead=look_ahead) if node in self._nodes:
                self._nodes[node].slots, self._nodes[node].look_ahead = slots, look_ahead
                self._show(node, event.time)
            case NodeLost(node=node):
                self._nodes.pop(node, None)
                self._held.discard(node)
                self._forward(event)
            case Arrived(length=length):
                self._arrived += 1
                self._promised += length
                self._forward(event)
            case Finished() | Failed() | Cancelled():
                self._ended(event)
                if event.node in self._nodes:
                    self._show(event.node, event.time)  # before the freed place is filled
                self._forward(event)
            case _:
                if isinstance(event, Woke):
                    self._alarm.rang(event.time)
                    self._touched |= self._held
                self._forward(event)
        while self._touched:
            node = min(self._touched)
            self._touched.discard(node)
            if node in self._nodes:
                self._show(node, event.time)
        return self._actions

    def _forward(self, event: Event) -> None:
        for action in self.inner.on_event(event):
            if isinstance(action, Dispatch) and action.node in self._nodes:
                self._charge(action, event.time)
            self._actions.append(action)

    @property
    def _expected(self) -> float:
        """Tokens that a request is likely to take: until the first answer, what its length promised."""
        if self._answers:
            return self._used / self._answers
        return self._promised / self._arrived if self._arrived else 0.0

    def _charge(self, action: Dispatch, now: float) -> None:
        here = self._nodes[action.node]
        self._touched.add(action.node)
        self._flying[action.row, action.node] = self._expected
        here.busy += 1
        here.requests.take(1, now)
        here.tokens.take(self._expected, now)

    def _ended(self, event: Finished | Failed | Cancelled) -> None:
        charged = self._flying.pop((event.row, event.node), None)
        here = self._nodes.get(event.node)
        if isinstance(event, Finished):
            used = event.answer.prompt_tokens + event.answer.output_tokens
            self._answers += 1
            self._used += used
            if here is not None and charged is not None:
                here.tokens.take(used - charged, event.time)
            if here is not None and event.answer.rate is not None:
                self._correct(here, event.answer.rate, event.time)
        elif here is not None and charged is not None and event.used is not None:
            here.tokens.take(event.used.prompt_tokens + event.used.output_tokens - charged, event.time)
        if here is not None and charged is not None:
            here.busy -= 1
            self._touched.add(event.node)

    def _correct(self, here: _Node, seen: RateSeen, now: float) -> None:
        here.requests.correct(seen.requests, seen.requests_left, now)
        here.tokens.correct(seen.tokens, seen.tokens_left, now)

    def _come_up(self, event: NodeUp) -> None:
        here = self._nodes[event.node]
        here.shown = self._allowed(here, event.time)
        self._touched.add(event.node)
        first = max(1, here.shown)  # a node comes up with a slot at least, and is closed at once if it has none
        self._forward(replace(event, slots=first, look_ahead=here.look_ahead if here.shown == here.slots else 0))

    def _allowed(self, here: _Node, now: float) -> int:
        if here.requests.limit is None and here.tokens.limit is None:
            return here.slots
        # A request dearer than a full bucket goes when the bucket is full, and overdraws it.
        price = min(max(1.0, self._expected), here.tokens.size)
        more = min(here.requests.level(now), here.tokens.level(now) / price)
        return here.slots if more == inf else max(0, min(here.slots, here.busy + floor(more + ROUNDING)))

    def _show(self, node: int, now: float) -> None:
        """Tells the inner strategy what the node may take; wakes up when it may take more."""
        here = self._nodes[node]
        allowed = self._allowed(here, now)
        if allowed != here.shown:
            here.shown = allowed
            self._forward(Resized(now, node, allowed, here.look_ahead if allowed == here.slots else 0))
        if allowed == here.slots:
            self._held.discard(node)
            return
        self._held.add(node)
        if here.busy >= allowed:
            due = max(here.requests.ready_at(1, now), here.tokens.ready_at(max(1.0, self._expected), now))
            if due > now:
                self._actions += self._alarm.set(due)

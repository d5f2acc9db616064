"""The outermost strategy: which nodes may be used at this moment, and who pays for a failure.

`Fleet` is a `Strategy` around the others. It keeps the state of every node (see `health`) and shows a node to the
strategies inside by `Resized`: with fewer slots while it comes back, with none while it rests. So nothing inside has
to know about servers that are full, away or out of order.

Who pays: a row that a node could not be asked, or that it had no room for, gets its place back at no cost. So does a
row of a node that turns out to serve none. When several rows fail on a node without an answer in between, the failures
are laid on the node (`Failed.node_at_fault`), and the row pays no attempt either, for as often as its retries allow.
A node that gives one row back over and over while it answers others means that row; then the row fails with that.

While all nodes rest, rows wait: nothing fails and no node is left out for good, unless it can't ever serve this run.
When none is left that could, the run is stopped, and can be resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.event import (
    PROGRESS,
    Action,
    Arrived,
    Cancelled,
    Dispatch,
    Event,
    Failed,
    Finished,
    NodeLost,
    NodeUp,
    Probe,
    Probed,
    Resized,
    SetAside,
    Stop,
    Woke,
)
from tokenmill.schedule.alarm import SLACK, Alarm
from tokenmill.schedule.health import Health, NodePolicy, Sign, State
from tokenmill.schedule.strategy import Strategy

#: Events after which a node may have to be tried at another time.
ARMING = (Failed, Probed, Woke)
#: What the failure of an attempt or of a probe says of the node.
_SIGNS = {"busy": Sign.REFUSED, "unreachable": Sign.UNREACHED, "misconfigured": Sign.WRONG}


class Note(Struct, frozen=True):
    """A node went into another state; `until` is when it is tried again, None if it isn't or need not be."""

    time: float
    node: int
    state: State
    reason: str
    until: float | None = None


class _Flight:
    """An attempt: the node's epoch when it began, and how many answers had come from there by then."""

    __slots__ = ("answers", "epoch", "health")

    def __init__(self, health: Health, epoch: int, answers: int) -> None:
        self.health, self.epoch, self.answers = health, epoch, answers

    @property
    def is_news(self) -> bool:
        """Whether its end tells of the node's state now: the node did not fall since it began."""
        return self.epoch == self.health.epoch


class Fleet:
    """Owns the states of the nodes; see the module for its rules.

    `names` are those of all nodes of the run, so that one which isn't open yet counts as one that may still come.
    `notes` are the changes of state that the last event caused.
    """

    heeds_progress = None  # it is the inner strategy's

    def __init__(
        self, inner: Strategy, policy: NodePolicy | None = None, *, seed: int = 0, names: Sequence[str] = ()
    ) -> None:
        self.inner = inner
        self.notes: list[Note] = []
        self._policy = policy or NodePolicy()
        self._random = Random(f"nodes of {seed}")
        self._names = tuple(names)
        self._nodes = {node: Health(node, self._policy, self._random) for node in range(len(names))}
        self._resting: dict[int, Health] = {}  # nodes that may have a moment at which they are tried again
        self._flights: dict[tuple[int, int], _Flight] = {}  # by row and node
        self._ended_leases: dict[int, dict[int, int]] = {}  # of rows that failed and aren't final
        self._given_back: dict[int, int] = {}
        self._alarm = Alarm()
        self._now = 0.0
        self._actions: list[Action] = []

    @property
    def states(self) -> dict[int, State]:
        """The state of every node."""
        return {node: health.state for node, health in self._nodes.items()}

    def room(self, node: int) -> int:
        """How many requests may be in flight on a node now."""
        health = self._nodes[node]
        if not health.takes:
            return 0
        return health.shown + (health.look_ahead if health.state is State.HEALTHY else 0)

    def on_event(self, event: Event, /) -> list[Action]:
        self._actions = []
        self.notes = []
        if event.time > self._now:
            self._now = event.time
        if isinstance(event, PROGRESS):
            self._forward(event)
            return self._actions
        match event:
            case Arrived():
                self._forward(event)
            case Finished() | Failed() | Cancelled():
                self._ended(event)
            case Probed():
                self._probed(event)
            case NodeUp():
                self._came_up(event)
            case NodeLost(node=node):
                self._lost(self._health(node))
                self._forward(event)
            case Resized():
                self._resized(event)
            case Woke(time=time):
                self._woke(time)
                self._forward(event)
            case _:
                self._forward(event)
        if isinstance(event, ARMING):
            self._arm()
        return self._actions

    def _forward(self, event: Event) -> None:
        for action in self.inner.on_event(event):
            if isinstance(action, Dispatch):
                health = self._nodes[action.node]
                health.in_flight += 1
                self._flights[action.row, action.node] = _Flight(health, health.epoch, health.answers)
            elif isinstance(action, SetAside):
                self._forget(action.row)
            self._actions.append(action)

    def _arm(self) -> None:
        """Asks to be woken for the node that is tried again next."""
        due = min((health.due for health in self._resting.values() if health.due is not None), default=None)
        if due is not None:
            self._actions += self._alarm.set(due)

    def _health(self, node: int) -> Health:
        if node not in self._nodes:
            self._nodes[node] = Health(node, self._policy, self._random)
        return self._nodes[node]

    def _forget(self, row: int) -> None:
        self._ended_leases.pop(row, None)
        self._given_back.pop(row, None)

    def _show(self, health: Health) -> None:
        ahead = health.look_ahead if health.state is State.HEALTHY else 0
        slots = health.shown if health.takes else 0
        self._forward(Resized(self._now, health.node, slots, ahead if slots else 0))

    # Attempts

    def _ended(self, event: Finished | Failed | Cancelled) -> None:
        flight = self._flights.get((event.row, event.node))
        if flight is None or event.lease <= self._ended_leases.get(event.row, {}).get(event.node, 0):
            return  # the late word of an attempt that was given up
        del self._flights[event.row, event.node]
        health = flight.health
        if flight.epoch >= health.birth:
            health.in_flight -= 1
        if isinstance(event, Finished):
            health.answers += 1
            self._forget(event.row)
            self._forward(event)
            if flight.epoch == health.epoch:
                self._answered(health)
            return
        if isinstance(event, Failed):
            self._ended_leases.setdefault(event.row, {})[event.node] = event.lease
            self._failed(event, flight)
        else:
            self._forward(event)

    def _answered(self, health: Health) -> None:
        health.good()
        if health.grow():
            self._show(health)
            if health.state is State.HEALTHY:
                self._note(health, "all its slots are back")

    def _failed(self, event: Failed, flight: _Flight) -> None:
        health, sign = flight.health, _SIGNS.get(event.kind)
        if sign is not None:
            if flight.is_news or (sign is Sign.WRONG and not health.is_out):
                self._fall(health, sign, event)
            elif sign is Sign.REFUSED:
                health.extend(event.time, event.retry_after)
            self._give_back(event, flight)
        elif event.kind in ("transient", "timeout"):
            self._judge(event, flight)
        else:
            self._forward(event)

    def _give_back(self, event: Failed, flight: _Flight) -> None:
        """The row gets its place back; but one that a node gives back while it answers others is what is wrong."""
        if flight.health.answers > flight.answers and event.kind != "misconfigured":
            times = self._given_back[event.row] = self._given_back.get(event.row, 0) + 1
            if times > self._policy.refusals:
                text = (
                    f"given back {times} times by nodes that answered others, last with: {event.message or event.kind}"
                )
                self._forward(replace(event, message=text))
                return
        self._forward(Cancelled(event.time, event.row, event.node, event.lease, event.used))

    def _judge(self, event: Failed, flight: _Flight) -> None:
        """Opens the breaker when it is time, and lays the failure on the row or on the node."""
        health = flight.health
        if not flight.is_news:
            is_node = not health.is_short
        else:
            opens = health.bad(event.row)
            is_node = opens or health.is_suspect
            if opens:
                self._fall(health, Sign.BROKEN, event)
        self._forward(replace(event, node_at_fault=True) if is_node else event)

    # Nodes

    def _fall(self, health: Health, sign: Sign, event: Failed | Probed) -> None:
        """A node stops taking requests."""
        was_shown = health.takes
        health.enter(sign, event.message or event.kind)
        health.fall()
        health.due = None
        if health.is_open and not health.is_out:
            is_last = not any(other.takes for other in self._nodes.values() if other is not health)
            health.rest(self._now, event.retry_after, is_last=is_last)
            self._resting[health.node] = health
        if was_shown:
            self._show(health)
        self._note(health, f"{event.kind}: {event.message}" if event.message else event.kind)
        self._stop_if_none_is_left()

    def _probed(self, event: Probed) -> None:
        health = self._health(event.node)
        was_asked, health.is_probed = health.is_probed, False
        sign = _SIGNS.get(event.kind, Sign.BROKEN) if event.kind else Sign.PASSED
        if health.is_out:
            return
        if health.takes or not health.is_open:
            if sign in (Sign.WRONG, Sign.UNREACHED):
                self._fall(health, sign, event)
        elif sign is Sign.WRONG:
            self._fall(health, sign, event)
        elif was_asked and sign is Sign.PASSED:
            health.probes_missed = 0
            health.strikes += 1
            self._back(health, sign, "answered a probe")
        elif was_asked:
            self._probe_missed(health, sign, event)

    def _probe_missed(self, health: Health, sign: Sign, event: Probed) -> None:
        health.probes_missed += sign is not Sign.REFUSED
        is_other = health.enter(sign, event.message or event.kind)
        if self._policy.removal is not None and health.probes_missed >= self._policy.removal:
            health.is_given_up = True
            self._note(health, f"given up after {health.probes_missed} failed probes, last: {health.message}")
            self._stop_if_none_is_left()
            return
        health.rest(self._now, event.retry_after, is_last=False)
        self._resting[health.node] = health
        if is_other:
            self._note(health, health.message)

    def _woke(self, time: float) -> None:
        self._alarm.rang(time)
        for _, health in sorted(self._resting.items()):
            if health.due is None:
                del self._resting[health.node]
            if health.due is None or health.due > time + SLACK:
                continue
            health.due = None
            if health.state is State.BUSY:
                self._back(health, Sign.RESTED, "has rested")
            else:
                health.is_probed = True
                self._actions.append(Probe(health.node))

    def _back(self, health: Health, sign: Sign, reason: str) -> None:
        health.enter(sign)
        health.come_back()
        self._show(health)
        self._note(health, reason)

    def _came_up(self, event: NodeUp) -> None:
        health = self._health(event.node)
        health.open(event.slots, event.look_ahead)
        if health.enter(Sign.UP):
            self._note(health, "up")
        if health.takes:
            self._forward(event)

    def _lost(self, health: Health) -> None:
        was_tried = health.due is not None or health.is_probed
        health.close()
        if health.enter(Sign.LOST, "lost") or was_tried:
            self._note(health, "lost")

    def _resized(self, event: Resized) -> None:
        """The driver learned that a node has another number of slots."""
        health = self._health(event.node)
        is_whole = health.shown >= health.slots
        health.slots, health.look_ahead = event.slots, event.look_ahead
        health.shown = event.slots if is_whole else min(health.shown, event.slots)
        if health.takes:
            self._show(health)

    def _note(self, health: Health, reason: str) -> None:
        self.notes.append(Note(self._now, health.node, health.state, reason, health.due))

    def _stop_if_none_is_left(self) -> None:
        if not all(health.is_out for health in self._nodes.values()):
            return
        each = [f"{self._name(health.node)} is {health.state}: {health.message}" for health in self._nodes.values()]
        self._actions.append(Stop(f"no node is left that can answer; {'; '.join(each)}"))

    def _name(self, node: int) -> str:
        return f"node {self._names[node]!r}" if node < len(self._names) else f"node {node}"

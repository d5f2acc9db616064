"""What happens after a failure: retried later, tried alone, or set aside; the strategy inside never knows.

`Supervisor` is a `Strategy` around another. The inner one sees rows arrive, places become free and nodes come and
go; the supervisor decides which rows arrive again and which nodes it may see.

Crashes: when an engine's process dies, any of the rows in flight there may have killed it. All become suspects. The
node is hidden from the inner strategy and, once up again, answers its suspects one at a time. Only a row that was
alone in flight at a crash is charged; so among many rows a poisonous one costs exactly itself. A suspect that ends
in another way than a crash is cleared. When the node stays lost, or rests (`Resized` to no slots), its suspects go to
another node, which is hidden and drained first. Hidden means that the inner strategy was told `NodeLost`; it hears of
the end of a suspect only when that is decided, so `Sequential` stays sequential.

Retries: a failed row arrives again after its back-off, as soon as the purse pays for it. A failure that is laid on
the node costs the row no attempt, for as often as the policy pardons it.

Memory: 8 bytes a row, and a small object for each row that has failed and isn't final yet.
"""

from __future__ import annotations

from array import array
from collections import deque
from heapq import heappop, heappush

from msgspec.structs import replace

from tokenmill.event import (
    PROGRESS,
    RETRYABLE_KINDS,
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
    SetAside,
    Woke,
)
from tokenmill.schedule.alarm import Alarm
from tokenmill.schedule.retry import Purse, RetryPolicy
from tokenmill.schedule.strategy import Strategy

UP, CRASHING, DOWN = "up", "crashing", "down"


class _Trouble:
    """What a row that failed has on its account; events up to `lease` are void."""

    __slots__ = ("charges", "failures", "lease", "pardons")

    def __init__(self) -> None:
        self.failures = 0
        self.pardons = 0
        self.charges = 0
        self.lease = -1


class _Ward:
    """A node from one `NodeUp` to the next. A row in flight points at its ward, so old ends count nothing."""

    __slots__ = ("alone", "deadline", "in_flight", "is_shown", "look_ahead", "node", "slots", "state", "suspects", "up")

    def __init__(self, up: NodeUp) -> None:
        self.up = up
        self.node = up.node
        self.slots = up.slots
        self.look_ahead = up.look_ahead
        self.state = UP
        self.is_shown = False  # the inner strategy knows that it is up
        self.in_flight = 0
        self.suspects: deque[int] = deque()
        self.alone: int | None = None  # the suspect in flight
        self.deadline = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether it takes a request at this moment."""
        return self.state == UP and self.slots > 0


class Supervisor:
    """Owns failure policy for the strategy `inner`; see the module for its rules."""

    heeds_progress = None  # it is the inner strategy's

    def __init__(self, inner: Strategy, policy: RetryPolicy | None = None, seed: int = 0) -> None:
        self.inner = inner
        self._policy = policy or RetryPolicy()
        self._purse = Purse(self._policy, seed)
        self._lengths = array("f")
        self._groups = array("i")
        self._wards: dict[int, _Ward] = {}
        self._flying: dict[int, _Ward] = {}
        self._troubles: dict[int, _Trouble] = {}
        self._retries: list[tuple[float, int]] = []  # due, row
        self._deadlines: list[tuple[float, int]] = []  # due, node whose suspects move
        self._orphans: deque[int] = deque()  # suspects without a node
        self._alarm = Alarm()
        self._slots = 0  # of all wards
        self._actions: list[Action] = []

    def on_event(self, event: Event, /) -> list[Action]:
        self._actions = []
        if isinstance(event, PROGRESS):
            if self._is_known_inside(event):
                self._forward(event)
            return self._actions
        match event:
            case Finished() | Failed() | Cancelled():
                self._ended(event)
            case Arrived(row=row, length=length, group=group):
                self._note(row, length, group)
                self._forward(event)
            case NodeUp():
                self._came_up(event)
            case NodeLost():
                self._lost(event)
            case Resized():
                self._resized(event)
            case Woke(time=time):
                self._alarm.rang(time)
                self._forward(event)
                self._retry_the_due(time)
                self._move_the_overdue(time)
            case _:
                self._forward(event)
        if self._retries or self._deadlines:
            self._arm(event.time)
        return self._actions

    def _forward(self, event: Event) -> None:
        for action in self.inner.on_event(event):
            if type(action) is Dispatch:
                ward = self._flying[action.row] = self._wards[action.node]
                ward.in_flight += 1
            self._actions.append(action)

    def _note(self, row: int, length: float, group: int) -> None:
        missing = row + 1 - len(self._lengths)
        if missing > 0:
            self._lengths.extend([1.0] * missing)
            self._groups.extend([0] * missing)
        self._lengths[row] = length
        self._groups[row] = group

    def _arrive_again(self, row: int, time: float) -> None:
        self._forward(Arrived(time, row, self._lengths[row], self._groups[row]))

    def _ended(self, event: Finished | Failed | Cancelled) -> None:
        row = event.row
        ward = self._flying.get(row)
        trouble = self._troubles.get(row)
        if ward is None or ward.node != event.node or (trouble and event.lease <= trouble.lease):
            return
        del self._flying[row]
        ward.in_flight -= 1
        is_suspect = ward.alone == row
        if is_suspect:
            ward.alone = None
        match event:
            case Finished():
                self._purse.earn()
                self._troubles.pop(row, None)
                self._retry_the_due(event.time)
                self._forward(event)
            case Failed(kind="crash"):
                self._crashed(event, ward)
            case Failed():
                self._failed(event)
            case Cancelled():
                self._cancelled(event, is_suspect)
        if not ward.is_shown:
            self._settle(ward, event.time)

    def _failed(self, event: Failed) -> None:
        trouble = self._trouble(event)
        if event.node_at_fault and trouble.pardons < self._policy.pardons:
            trouble.pardons += 1
        else:
            trouble.failures += 1
        if event.kind not in RETRYABLE_KINDS:
            self._set_aside(event.row, event.kind, event.message or event.kind)
        elif trouble.failures > self._policy.retries:
            self._set_aside(event.row, event.kind, _spent(event, trouble))
        else:
            wait = self._purse.back_off(trouble.failures + trouble.pardons)
            heappush(self._retries, (event.time + wait, event.row))
        self._forward(event)

    def _cancelled(self, event: Cancelled, is_suspect: bool) -> None:
        """The row is as if it had not been sent: first of those that wait, and not charged."""
        self._trouble(event)
        if is_suspect:
            home = self._wards[event.node]
            home.suspects.appendleft(event.row)
            if not home.is_usable:
                self._await_return(home, event.time)
        else:
            self._forward(event)
            self._arrive_again(event.row, event.time)

    def _crashed(self, event: Failed, ward: _Ward) -> None:
        home = self._wards[event.node]
        trouble = self._trouble(event)
        if home is ward and ward.state == UP:
            # The first to be reported of those that were in flight; more than one, and none of them was alone.
            trouble.charges += ward.in_flight == 0
            ward.state = CRASHING
            self._hide(ward, event.time)
        if trouble.charges >= self._policy.charges:
            self._set_aside(event.row, "poison", f"ended the engine's process {trouble.charges} times, each time alone")
            self._forward(event)
        else:
            self._quarantine(home, [event.row], event.time)

    def _trouble(self, event: Failed | Cancelled) -> _Trouble:
        trouble = self._troubles.setdefault(event.row, _Trouble())
        trouble.lease = event.lease
        return trouble

    def _set_aside(self, row: int, kind: str, reason: str) -> None:
        del self._troubles[row]
        self._actions.append(SetAside(row, kind, reason))

    def _came_up(self, event: NodeUp) -> None:
        earlier = self._wards.get(event.node)
        assert earlier is None or earlier.state != UP, f"node {event.node} is up already"
        ward = self._wards[event.node] = _Ward(event)
        if earlier is not None:
            ward.suspects.extend(earlier.suspects)
        ward.suspects.extend(self._orphans)
        self._orphans.clear()
        self._slots += ward.slots - (earlier.slots if earlier is not None else 0)
        self._purse.widen(self._slots)
        self._settle(ward, event.time)

    def _resized(self, event: Resized) -> None:
        """A node without slots rests: it gets no suspects either, and is shown again when it has slots."""
        ward = self._wards.get(event.node)
        if ward is None or ward.state == DOWN:
            return
        self._slots += event.slots - ward.slots
        ward.slots, ward.look_ahead = event.slots, event.look_ahead
        if ward.slots and self._orphans:
            self._rehome(event.time)
        if ward.is_shown:
            self._forward(event)
        elif ward.slots:
            self._settle(ward, event.time)
        elif ward.suspects:
            self._await_return(ward, event.time)

    def _lost(self, event: NodeLost) -> None:
        ward = self._wards.get(event.node)
        if ward is None or ward.state == DOWN:
            return
        ward.state = DOWN
        self._hide(ward, event.time)
        if ward.suspects:
            self._await_return(ward, event.time)

    def _is_known_inside(self, event: FirstToken | Paced) -> bool:
        """True for the present attempt of a row that the inner strategy sent."""
        ward = self._flying.get(event.row)
        if ward is None or not ward.is_shown or ward.node != event.node:
            return False
        trouble = self._troubles.get(event.row)
        return trouble is None or event.lease > trouble.lease

    def _hide(self, ward: _Ward, time: float) -> None:
        if ward.is_shown:
            ward.is_shown = False
            self._forward(NodeLost(time, ward.node))

    def _quarantine(self, ward: _Ward, rows: list[int], time: float) -> None:
        """Has the node answer these rows one at a time, as soon as nothing else runs there."""
        ward.suspects.extend(rows)
        self._hide(ward, time)
        if ward.state == DOWN or not ward.slots:
            self._await_return(ward, time)
        self._settle(ward, time)

    def _settle(self, ward: _Ward, time: float) -> None:
        """Starts the next suspect on a hidden node that has run empty, or shows the node when there is none left."""
        if ward.in_flight or not ward.is_usable or self._wards[ward.node] is not ward:
            return
        if ward.suspects:
            row = ward.alone = ward.suspects.popleft()
            self._flying[row] = ward
            ward.in_flight = 1
            self._actions.append(Dispatch(row, ward.node))
        elif not ward.is_shown:
            ward.is_shown = True
            self._forward(replace(ward.up, time=time, slots=ward.slots, look_ahead=ward.look_ahead))

    def _await_return(self, ward: _Ward, time: float) -> None:
        ward.deadline = time + self._policy.patience
        heappush(self._deadlines, (ward.deadline, ward.node))

    def _retry_the_due(self, time: float) -> None:
        """Lets the rows whose back-off is over arrive again, as many as the purse pays for."""
        while self._retries and self._retries[0][0] <= time and self._purse.spend(time):
            self._arrive_again(heappop(self._retries)[1], time)

    def _move_the_overdue(self, time: float) -> None:
        """Takes the suspects off nodes that stayed away for longer than patience lasts."""
        while self._deadlines and self._deadlines[0][0] <= time:
            deadline, node = heappop(self._deadlines)
            if self._is_awaited(deadline, node):
                self._orphans.extend(self._wards[node].suspects)
                self._wards[node].suspects.clear()
        if self._orphans:
            self._rehome(time)

    def _rehome(self, time: float) -> None:
        """Gives suspects whose node stays away to the node that runs empty soonest; without one they wait."""
        usable = [ward for ward in self._wards.values() if ward.is_usable]
        if usable:
            rows = list(self._orphans)
            self._orphans.clear()
            self._quarantine(min(usable, key=lambda ward: (ward.in_flight / ward.slots, ward.node)), rows, time)

    def _arm(self, time: float) -> None:
        """Asks to be woken for the earliest wait, unless that was asked already."""
        while self._deadlines and not self._is_awaited(*self._deadlines[0]):
            heappop(self._deadlines)
        waits = [self._deadlines[0][0]] if self._deadlines else []
        if self._retries:
            waits.append(max(self._retries[0][0], self._purse.next(time)))
        if waits:
            self._actions += self._alarm.set(min(waits))

    def _is_awaited(self, deadline: float, node: int) -> bool:
        """False for the deadline of a node that came back, or went away again since."""
        ward = self._wards[node]
        return not ward.is_usable and ward.deadline == deadline


def _last(event: Failed) -> str:
    return f"{event.kind}: {event.message}" if event.message else event.kind


def _spent(event: Failed, trouble: _Trouble) -> str:
    times = trouble.failures + trouble.pardons
    return f"failed {times} times, last with: {_last(event)}"

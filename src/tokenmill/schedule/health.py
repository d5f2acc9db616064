"""The state of one node: a table of what leads where, and how long it rests.

The states and their transitions stand in `TABLE`, after the way h11 writes down a protocol. A node that is `HEALTHY` or
`WARMING` takes requests; in the others it rests, and nothing is sent to it.

- `WARMING`: not open yet, or back from a rest with fewer slots than it has, of which it gets more as answers come.
- `HEALTHY`: takes as many requests as it has slots.
- `BUSY`: said that it has no room (429, 503). It rests for as long as it asked, else for a random part of a time that
  doubles (full jitter), and then takes requests again: if it still has no room, that costs no request an attempt.
- `COOLING`: the breaker opened. Several requests failed in a row, or too many of the last ones, and a row can't be to
  blame for what happens to others. It comes back through one probe of one token.
- `OFFLINE`: can't be reached, or was lost. Probed at growing intervals; one that was lost comes up by itself.
- `MISCONFIGURED`: will never serve this run (wrong key, no such model). Out for the session.

A breaker that only counted failures would let a node that flaps in and out come back too soon each time. So each
return from a probe is a strike that doubles the rests to come, and `calm` good answers take one strike away. The
jitter of a cooling node is half of its rest, as full jitter would now and then probe at once (AWS Architecture Blog,
"Exponential Backoff And Jitter", names both). Failures in a row, and their share with a minimum volume, are those of
Envoy's outlier detection.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from random import Random

from msgspec import Struct


class State(StrEnum):
    """What a node is fit for."""

    HEALTHY = "healthy"
    BUSY = "busy"
    WARMING = "warming"
    COOLING = "cooling"
    OFFLINE = "offline"
    MISCONFIGURED = "misconfigured"


class Sign(StrEnum):
    """What was seen of a node."""

    UP = "up"
    GROWN = "grown"
    REFUSED = "refused"
    RESTED = "rested"
    BROKEN = "broken"
    UNREACHED = "unreached"
    PASSED = "passed"
    WRONG = "wrong"
    LOST = "lost"


_FALLS = {
    Sign.REFUSED: State.BUSY,
    Sign.BROKEN: State.COOLING,
    Sign.UNREACHED: State.OFFLINE,
    Sign.WRONG: State.MISCONFIGURED,
    Sign.LOST: State.OFFLINE,
}
#: What a probe may find out, and what the driver may say, of a node that rests.
_PROBED = {**_FALLS, Sign.PASSED: State.WARMING, Sign.UP: State.HEALTHY}
TABLE: dict[State, dict[Sign, State]] = {
    State.WARMING: {**_FALLS, Sign.UP: State.HEALTHY, Sign.GROWN: State.HEALTHY},
    State.HEALTHY: {**_FALLS, Sign.UP: State.HEALTHY},
    State.BUSY: {**_FALLS, Sign.RESTED: State.WARMING, Sign.UP: State.HEALTHY},
    State.COOLING: {**_PROBED, Sign.REFUSED: State.COOLING},
    State.OFFLINE: {**_PROBED, Sign.REFUSED: State.COOLING},
    State.MISCONFIGURED: dict.fromkeys(Sign, State.MISCONFIGURED),
}


class NodePolicy(Struct, frozen=True, kw_only=True):
    """When a node rests, and for how long.

    `base`, `cap`: seconds of the first rest and of the longest that isn't asked for. `longest_asked`: seconds for which
    a node may ask to be left alone; more is cut. `failures`: failed requests in a row, of as many rows, that open the
    breaker; so does the share `share` of the last `window` attempts, once there were `volume`. `calm`: good answers
    that take one strike away. `health_interval`: seconds between probes of a node that is offline, at most. `removal`:
    failed probes in a row after which it is given up, None for never. `refusals`: times that a node may give back one
    row while it answers others, before that counts as the row's own failure.
    """

    base: float = 1.0
    cap: float = 60.0
    longest_asked: float = 300.0
    failures: int = 5
    window: int = 20
    volume: int = 10
    share: float = 0.5
    calm: int = 20
    health_interval: float = 30.0
    removal: int | None = None
    refusals: int = 100


class Health:
    """One node as `Fleet` knows it. `shown` slots are what the strategies inside may use.

    `epoch` counts the falls. An attempt that began in an earlier epoch tells nothing new: it was in flight when the
    node fell, or was refused in the same burst.
    """

    __slots__ = (
        "_calm",
        "_grown_by",
        "_policy",
        "_random",
        "_streak",
        "_window",
        "answers",
        "birth",
        "due",
        "epoch",
        "in_flight",
        "is_given_up",
        "is_open",
        "is_probed",
        "is_short",
        "look_ahead",
        "message",
        "misses",
        "node",
        "probes_missed",
        "shown",
        "slots",
        "state",
        "strikes",
    )

    def __init__(self, node: int, policy: NodePolicy, random: Random) -> None:
        self.node = node
        self.state = State.WARMING
        self.message = ""
        self.slots = self.look_ahead = self.shown = 0
        self.epoch = self.in_flight = 0
        self.birth = 0  # the epoch in which it was opened
        self.is_open = False  # the driver said that it is up, and not that it is lost
        self.is_probed = self.is_given_up = False
        self.is_short = False  # it last fell because it had no room
        self.due: float | None = None  # when it is probed, or comes back
        self.strikes = self.misses = self.probes_missed = 0
        self.answers = 0  # since the run began
        self._calm = 0
        self._grown_by = 0
        self._streak: set[int] = set()
        self._window: deque[bool] = deque(maxlen=policy.window)
        self._policy = policy
        self._random = random

    @property
    def takes(self) -> bool:
        """Whether requests may be sent to it."""
        return self.is_open and self.state in (State.HEALTHY, State.WARMING)

    @property
    def is_out(self) -> bool:
        """Whether it won't come back in this session."""
        return self.state is State.MISCONFIGURED or self.is_given_up

    # What its answers say

    def good(self) -> None:
        """An attempt of this epoch was answered."""
        self._streak.clear()
        self._window.append(True)
        self.misses = 0
        self._calm += 1
        if self._calm >= self._policy.calm:
            self._calm = 0
            self.strikes = max(0, self.strikes - 1)

    def bad(self, row: int) -> bool:
        """An attempt of this epoch failed; returns whether that opens the breaker."""
        self._calm = 0
        if row in self._streak:
            return False  # once more the same row
        self._streak.add(row)
        self._window.append(False)
        if len(self._streak) >= self._policy.failures:
            return True
        seen = len(self._window)
        return seen >= self._policy.volume and self._window.count(False) >= self._policy.share * seen

    @property
    def is_suspect(self) -> bool:
        """Whether more than one row failed since the last answer: no row can be to blame for that."""
        return len(self._streak) > 1

    # Falling, resting and coming back

    def enter(self, sign: Sign, message: str = "") -> bool:
        """Goes where the table says; returns whether that is another state."""
        before, self.state = self.state, TABLE[self.state][sign]
        self.message = message or self.message
        return before is not self.state

    def fall(self) -> None:
        """Stops taking requests and forgets what was seen; half of its slots are what it comes back with."""
        self.epoch += 1
        self._calm = self._grown_by = 0
        self.shown = max(1, self.shown // 2)
        self.is_short = self.state is State.BUSY
        self._streak.clear()
        self._window.clear()

    def rest(self, time: float, asked: float | None, *, is_last: bool) -> None:
        """Decides when it is tried again; strikes don't lengthen the rest of the last node that took requests."""
        strikes = 0 if is_last else self.strikes
        limit = self._policy.health_interval if self.state is State.OFFLINE else self._policy.cap
        span = min(limit, self._policy.base * 2.0 ** min(strikes + self.misses, 60))
        self.misses += 1
        wanted = self._heard(asked)
        if wanted:
            wait = wanted + self._random.uniform(0, self._policy.base + wanted / 10)
        elif self.state is State.BUSY:
            wait = self._random.uniform(0, span)
        else:
            wait = self._random.uniform(span / 2, span)
        self.due = time + wait

    def extend(self, time: float, asked: float | None) -> None:
        """A late refusal of the same burst that asks for more time gets it."""
        if self.state is State.BUSY and self.due is not None:
            self.due = max(self.due, time + self._heard(asked))

    def _heard(self, asked: float | None) -> float:
        """Seconds for which it is left alone because it asked; nonsense counts as nothing."""
        return min(asked, self._policy.longest_asked) if asked is not None and asked > 0 else 0.0

    def come_back(self) -> None:
        """Takes requests again. What still runs on a node that had no room shows how much room it has."""
        self.due = None
        self.shown = min(self.slots, max(self.shown, self.in_flight if self.is_short else 1))

    def open(self, slots: int, look_ahead: int) -> None:
        """The driver says that it is up: fresh, with all its slots; strikes are remembered."""
        self.fall()
        self.slots, self.look_ahead, self.shown = slots, look_ahead, slots
        self.birth, self.in_flight, self.due = self.epoch, 0, None
        self.is_probed, self.is_open, self.is_given_up = False, True, False

    def close(self) -> None:
        """The driver says that it is lost; it comes up again by the driver's word alone."""
        self.fall()
        self.due, self.is_probed, self.is_open = None, False, False

    def grow(self) -> bool:
        """After a good answer, gives a warming node one slot more; returns whether that changed anything.

        One more with each answer doubles the slots in the time of one answer. A node that said it had no room gets one
        more only for a whole round of answers, or each rest would soon be followed by the next.
        """
        if self.state is not State.WARMING:
            return False
        if self.shown < self.slots:
            self._grown_by += 1
            if self._grown_by < (self.shown if self.is_short else 1):
                return False
            self._grown_by = 0
            self.shown += 1
        if self.shown >= self.slots:
            self.enter(Sign.GROWN)
        return True

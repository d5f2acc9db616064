"""When a failed row gets another attempt, and when it doesn't.

Waiting: exponential back-off with full jitter, a uniform draw from 0 to the cap of that attempt, which spreads a
crowd of failures best for the work it costs (AWS Architecture Blog, "Exponential Backoff And Jitter"). Draws come
from a seeded generator, so a replay waits the same.

Budget: each retry spends one token of a purse that starts with `reserve` and gains `share` for each answer, after
the retry throttling of gRPC (proposal A6, `tokenRatio`) and the retry quota of the AWS clients. In an outage the
load of retries so stays a fraction of the useful load, instead of a multiple of all of it. Those clients fail a call
that finds the purse empty; a row of a run waits instead. For that the purse also fills with time, up to where it
began, within one cap of the back-off: when a storm is over its rows are answered, though no answer earned a retry
meanwhile. It holds at least as many as there are slots, since so many rows fail when all nodes do at once.
"""

from __future__ import annotations

from random import Random

from msgspec import Struct

#: What may be missing to a whole retry: sums of many small gains are never exact.
ROUNDING = 1e-6


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """What a failure may cost.

    `retries`: attempts of a row after the first. `pardons`: failures of a row that are laid on its node; beyond them
    it pays like for its own, so that a row which fails everywhere comes to an end. `base`, `cap`: seconds of back-off,
    before the second attempt and at most. `share`, `reserve`: retries allowed per answer, and before any. `charges`:
    crashes with a row alone in flight that set it aside. `patience`: seconds that suspects wait for their lost node
    before they go to another.
    """

    retries: int = 4
    pardons: int = 5
    base: float = 1.0
    cap: float = 60.0
    share: float = 0.2
    reserve: int = 64
    charges: int = 3
    patience: float = 120.0


class Purse:
    """The retries that a run may make now."""

    def __init__(self, policy: RetryPolicy, seed: int) -> None:
        self._policy = policy
        self._random = Random(seed)
        self._size = float(policy.reserve)  # what time alone fills it up to
        self._tokens = self._size
        self._filled = 0.0  # the moment until which time has filled it

    def widen(self, size: int) -> None:
        """Holds at least this many retries from now on."""
        if size > self._size:
            self._tokens += size - self._size
            self._size = float(size)

    def earn(self) -> None:
        """An answer came."""
        self._tokens += self._policy.share

    def spend(self, time: float) -> bool:
        """Takes one retry, if there is one."""
        if not self._has_one(time):
            return False
        self._tokens -= 1
        return True

    def next(self, time: float) -> float:
        """When there is a retry even if no answer comes: now, if there is one."""
        return time if self._has_one(time) else time + (1 - self._tokens) / self._pace

    def back_off(self, failures: int) -> float:
        """Seconds to wait after this many failures of a row."""
        # The exponent is capped because a large one overflows long after `cap` has taken over.
        return self._random.uniform(0, min(self._policy.cap, self._policy.base * 2.0 ** min(failures - 1, 60)))

    @property
    def _pace(self) -> float:
        """Retries per second; one at least fits into a cap, even where the reserve is none."""
        return max(1.0, self._size) / self._policy.cap

    def _has_one(self, time: float) -> bool:
        if time > self._filled:
            gained = self._pace * (time - self._filled)
            self._filled = time
            self._tokens = max(self._tokens, min(max(1.0, self._size), self._tokens + gained))
        return self._tokens >= 1 - ROUNDING

"""When a failed row gets another attempt, and when it doesn't.

Waiting: exponential back-off with full jitter, a uniform draw from 0 to the cap of that attempt, which spreads a
crowd of failures best for the work it costs (AWS Architecture Blog, "Exponential Backoff And Jitter"). Draws come
from a seeded generator, so a replay waits the same.

Budget: each retry spends one token of a purse that starts with `reserve` and gains `share` for each answer, after
the retry throttling of gRPC (proposal A6, `tokenRatio`) and the retry quota of the AWS clients. In an outage the
load of retries so stays a fraction of the useful load, instead of a multiple of all of it.
"""

from __future__ import annotations

from random import Random

from msgspec import Struct


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """What a failure may cost.

    `retries`: attempts of a row after the first. `base`, `cap`: seconds of back-off, before the second attempt and
    at most. `share`, `reserve`: retries allowed per answer, and before any. `charges`: crashes with a row alone in
    flight that set it aside. `patience`: seconds that suspects wait for their lost node before they go to another.
    """

    retries: int = 2
    base: float = 1.0
    cap: float = 60.0
    share: float = 0.2
    reserve: int = 64
    charges: int = 3
    patience: float = 120.0


class Purse:
    """The retries left to a run."""

    def __init__(self, policy: RetryPolicy, seed: int) -> None:
        self._policy = policy
        self._random = Random(seed)
        self._tokens = float(policy.reserve)

    def earn(self) -> None:
        """An answer came."""
        self._tokens += self._policy.share

    def spend(self) -> bool:
        """Takes one retry, if there is one."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def back_off(self, failures: int) -> float:
        """Seconds to wait after this many failures of a row."""
        # The exponent is capped because a large one overflows long after `cap` has taken over.
        return self._random.uniform(0, min(self._policy.cap, self._policy.base * 2.0 ** min(failures - 1, 60)))

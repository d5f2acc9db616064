"""Requests and tokens a minute, as hosted APIs allow them: a bucket that fills evenly; pure, the time is given."""

from __future__ import annotations

MINUTE = 60.0
ROUNDING = 1e-6


class Allowance:
    """So much a minute, of which a whole minute's worth may be used at once."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._left = float(per_minute)
        self._at = now

    def left(self, now: float) -> float:
        """What may be used now."""
        self._left = min(self.per_minute, self._left + (now - self._at) * self.per_minute / MINUTE)
        self._at = now
        return self._left

    def take(self, now: float, amount: float) -> None:
        self._left = self.left(now) - amount

    def wait(self, now: float, amount: float) -> float:
        """Seconds until `amount` may be used; more than a minute's worth is let through when the bucket is full."""
        missing = min(amount, self.per_minute) - self.left(now)
        return missing * MINUTE / self.per_minute if missing > ROUNDING else 0.0

    def reset(self, now: float) -> float:
        """Seconds until the bucket is full."""
        return (self.per_minute - self.left(now)) * MINUTE / self.per_minute


class Allowances:
    """The limits of one server, and the headers that tell of them."""

    def __init__(self, requests: int | None, tokens: int | None, now: float) -> None:
        given = (("requests", requests), ("tokens", tokens))
        self._limits = [(name, Allowance(limit, now)) for name, limit in given if limit is not None]

    def __bool__(self) -> bool:
        return bool(self._limits)

    def take(self, now: float, tokens: int) -> float:
        """Uses one request of so many tokens; if it isn't allowed, uses nothing and says for how many seconds."""
        amounts = {"requests": 1, "tokens": tokens}
        wait = max((limit.wait(now, amounts[name]) for name, limit in self._limits), default=0.0)
        if wait <= 0:
            for name, limit in self._limits:
                limit.take(now, amounts[name])
        return wait

    def headers(self, now: float) -> list[tuple[str, str]]:
        found = []
        for name, limit in self._limits:
            found += [
                (f"x-ratelimit-limit-{name}", str(limit.per_minute)),
                (f"x-ratelimit-remaining-{name}", str(max(0, int(limit.left(now))))),
                (f"x-ratelimit-reset-{name}", spelled(limit.reset(now))),
            ]
        return found


def spelled(seconds: float) -> str:
    """Seconds as those headers write them: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < MINUTE:
        return f"{round(seconds, 3):g}s"
    return f"{int(seconds // MINUTE)}m{round(seconds % MINUTE, 3):g}s"

"""What one step of a load sweep shows: pure figures of its attempts.

Counted by event time: latencies are of requests that were due inside the window, however late they ended, and rates are
of what happened inside it, whenever it was asked for. What was due before is warm-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from msgspec import Struct

from tokenmill.bench.load import Shot, Window
from tokenmill.bench.saturation import Drift, drift
from tokenmill.event import Attempt
from tokenmill.stats.percentile import percentile


class Limits(Struct, frozen=True, kw_only=True):
    """What a request must keep to be of use, seconds; None is no limit."""

    ttft: float | None = None
    tpot: float | None = None

    @property
    def is_stated(self) -> bool:
        return self.ttft is not None or self.tpot is not None

    def are_kept(self, shot: Shot) -> bool:
        """Whether an answered request is within them; one without pieces had its first token at its end."""
        pace = tpot(shot)
        is_prompt = self.ttft is None or ttft(shot) <= self.ttft
        return is_prompt and (self.tpot is None or pace is None or pace <= self.tpot)


class Step(Struct, frozen=True, kw_only=True):
    """The window of a step. Rates are per second; `unfinished` were due inside and cut off when patience ended.

    `tokens` came inside the window. `waits`: TTFT beyond that of the idle node; `late`: sent after being due, seconds.
    """

    seconds: float
    offered: float
    answered_rate: float
    tokens: float
    good_rate: float | None
    answered: tuple[Shot, ...]
    failed: dict[str, int]
    unfinished: int
    waits: tuple[float, ...]
    late: tuple[float, ...]
    drift: Drift


def step_of(shots: Sequence[Shot], window: Window, alone: float, limits: Limits) -> Step:
    """`alone`: seconds to the first token on the idle node."""
    due = [shot for shot in shots if window.holds(shot.due)]
    answered = tuple(shot for shot in due if shot.attempt.outcome == "answered")
    kinds = [shot.attempt.kind for shot in due if shot.attempt.outcome == "failed"]
    good = sum(map(limits.are_kept, answered)) / window.seconds if limits.is_stated else None
    ends = [shot for shot in shots if shot.attempt.outcome == "answered" and window.holds(shot.attempt.finished)]
    return Step(
        seconds=window.seconds,
        offered=len(due) / window.seconds,
        answered_rate=len(ends) / window.seconds,
        tokens=sum(tokens_inside(shot.attempt, window) for shot in shots),
        good_rate=good,
        answered=answered,
        failed={kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        unfinished=len(due) - len(answered) - len(kinds),
        waits=tuple(max(0.0, ttft(shot) - alone) for shot in answered),
        late=tuple(max(0.0, shot.attempt.dispatched - shot.due) for shot in due),
        drift=drift([(shot.due, shot.attempt.finished) for shot in shots], window.begin, window.end),
    )


def tokens_inside(attempt: Attempt, window: Window) -> float:
    """Output tokens that came inside the window; they count as made evenly from the first token to the end.

    An answer that came in one piece was made at some time since it was sent. Failed attempts count nothing.
    """
    if attempt.outcome == "failed":
        return 0.0
    is_streamed = attempt.first_token is not None and attempt.chunks != 1
    begin = attempt.first_token if is_streamed and attempt.first_token is not None else attempt.dispatched
    if attempt.finished <= begin:
        return float(attempt.output_tokens) if window.holds(attempt.finished) else 0.0
    inside = min(attempt.finished, window.end) - max(begin, window.begin)
    return attempt.output_tokens * max(0.0, inside) / (attempt.finished - begin)


def ttft(shot: Shot) -> float:
    """First token - due; the end of an answer of which no first token was seen."""
    first = shot.attempt.first_token
    return (shot.attempt.finished if first is None else first) - shot.due


def tpot(shot: Shot) -> float | None:
    """(Finished - first token) / (output tokens - 1); None for an answer of one token, or of one piece."""
    attempt = shot.attempt
    if attempt.first_token is None or attempt.output_tokens < 2 or attempt.chunks == 1:
        return None
    return (attempt.finished - attempt.first_token) / (attempt.output_tokens - 1)


def latency(shot: Shot) -> float:
    """Finished - due."""
    return shot.attempt.finished - shot.due


def share_of(values: Iterable[float], share: float) -> float:
    """A percentile of at least one value."""
    ordered = sorted(values)
    return median(ordered) if share == 0.5 else percentile(ordered, share)

"""How fast a run goes and how far it is, in numbers and in as many words as there is room for."""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from tokenmill.driver.progress import Progress
from tokenmill.record.store import Counts

#: Seconds of history that rates are computed over.
RATE_OVER = 10.0
#: Columns a bar has at least, or there is none.
SHORTEST_BAR = 8


class Stories(Struct, frozen=True, kw_only=True):
    """Input rows of a run with a recipe, and how many of them have all they get."""

    rows: int
    ended: int


class Facts(Struct, frozen=True, kw_only=True):
    """How far a run is, earlier sessions included; rates are of the last RATE_OVER seconds.

    `seconds_left` is None until something has ended. With a recipe there are `stories`, and `rows` are the prompts
    known so far, so more time may be left.
    """

    rows: int
    answered: int
    failed: dict[str, int]
    running: int
    requests_per_second: float
    output_tokens_per_second: float
    seconds_left: float | None
    stopping: bool = False
    stories: Stories | None = None

    @property
    def way(self) -> tuple[int, int]:
        """How far it is, and what the whole is, 1 at least."""
        ended, rows = (self.stories.ended, self.stories.rows) if self.stories else (self.ended, self.rows)
        return ended, max(1, rows)

    @property
    def failed_total(self) -> int:
        return sum(self.failed.values())

    @property
    def ended(self) -> int:
        return self.answered + self.failed_total


class Pace:
    """Turns the counters of a session into facts of the run; `before` and `stories` are what earlier ones left."""

    def __init__(self, before: Counts, stories: Stories | None = None) -> None:
        self._before = before
        self._stories = stories
        self._seen: deque[tuple[float, int, int]] = deque()

    def facts(self, progress: Progress, now: float) -> Facts:
        """The facts at `now`, seconds on the session's clock."""
        before, ended = self._before, progress.answered + progress.failed_total
        if not ended and not progress.running:  # still loading, which says nothing about the pace
            self._seen.clear()
        self._seen.append((now, ended, progress.output_tokens))
        while len(self._seen) > 2 and now - self._seen[0][0] > RATE_OVER:
            self._seen.popleft()
        then, ended_then, tokens_then = self._seen[0]
        passed = now - then
        rate = (ended - ended_then) / passed if passed > 0 else 0.0
        whole_rate = ended / now if now > 0 else 0.0
        kinds = before.failed.keys() | progress.failed.keys()
        stories = self._stories
        if stories is not None:
            stories = Stories(rows=stories.rows, ended=stories.ended + progress.ended)
        return Facts(
            rows=before.rows - before.unfinished + progress.rows,
            answered=before.answered + progress.answered,
            failed={kind: before.failed.get(kind, 0) + progress.failed.get(kind, 0) for kind in sorted(kinds)},
            running=progress.running,
            requests_per_second=round(rate, 3),
            output_tokens_per_second=round((progress.output_tokens - tokens_then) / passed, 3) if passed > 0 else 0.0,
            seconds_left=round((progress.rows - ended) / (rate or whole_rate), 1) if ended else None,
            stopping=progress.stopping,
            stories=stories,
        )


def plain_line(facts: Facts) -> str:
    """One line for where there is no terminal."""
    left = "" if facts.seconds_left is None else f", {_time_left(facts)}"
    stories = f"{facts.stories.ended} of {facts.stories.rows} rows ended; prompts: " if facts.stories else ""
    return (
        f"{stories}{facts.answered} of {facts.rows} answered, {facts.running} running, {facts.failed_total} failed, "
        f"{short(facts.requests_per_second)} requests/s, {short(facts.output_tokens_per_second)} output tokens/s{left}"
    )


def around_bar(facts: Facts, width: int) -> tuple[str, str]:
    """What stands before and after a bar on a line of `width` columns; the more room, the more words."""
    doing = "stopping" if facts.stopping else "answering" if facts.ended or facts.running else "starting"
    count = least = f"{facts.ended}/{facts.rows}"
    if facts.stories:
        least = f"{facts.stories.ended}/{facts.stories.rows} rows"
        count = f"{least}  {count} prompts"
    if doing == "starting":
        return f"{doing} ", f"  {count}"
    running = f"{facts.running} running"
    failed = [f"{facts.failed_total} failed"] if facts.failed_total else []
    rate, tokens = short(facts.requests_per_second), short(facts.output_tokens_per_second)
    time = [] if facts.seconds_left is None else [duration(facts.seconds_left)]
    left = [_time_left(facts)] if time else []
    ended, rows = facts.way
    share = f"{100 * ended // rows} %"
    variants = (
        (f"{doing} ", [count, share, running, *failed, f"{rate} requests/s", f"{tokens} tokens/s", *left]),
        (f"{doing} ", [count, running, *failed, f"{rate}/s", f"{tokens} tok/s", *left]),
        ("", [count, running, *failed, f"{rate}/s", f"{tokens} tok/s", *time]),
        ("", [least, running, *failed, f"{tokens} tok/s", *time]),
        ("", [least, *failed, *time]),
        ("", [least, *time]),
        ("", [least]),
    )
    for before, parts in variants:
        after = "  ".join(["", *parts])
        if len(before) + SHORTEST_BAR + len(after) <= width:
            return before, after
    return "", least


def _time_left(facts: Facts) -> str:
    """More prompts may come of a recipe's answers, and nobody knows how many."""
    return f"{duration(facts.seconds_left or 0)} {'or more ' if facts.stories else ''}left"


def short(number: float) -> str:
    """A rate in few letters: 0.25, 3.4, 870, 12.3k."""
    size, unit = (1e6, "M") if number >= 999_500 else (1e3, "k") if number >= 999.5 else (1.0, "")
    scaled = number / size
    return f"{scaled:.3g}{unit}" if scaled < 999.5 else f"{scaled:.0f}{unit}"


def duration(seconds: float) -> str:
    """Minutes and seconds, hours where there are some: 0:07, 12:05, 3:00:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

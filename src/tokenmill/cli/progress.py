"""What a person sees while a run goes on: a bar on a terminal, a line now and then elsewhere, JSON lines if asked.

Everything goes to stderr, so that stdout holds results alone. Answers are never shown here: they may hold anything.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from typing import TYPE_CHECKING

from tokenmill.driver.progress import Progress

if TYPE_CHECKING:
    from rich.progress import TaskID

#: Seconds of history that rates are computed over.
RATE_OVER = 10.0
#: Seconds between lines where there is no terminal.
LINE_EVERY = 10.0


class Pace:
    """Requests and output tokens per second over the last RATE_OVER seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def update(self, progress: Progress, now: float) -> tuple[float, float]:
        self._seen.append((now, progress.answered, progress.output_tokens))
        while len(self._seen) > 2 and now - self._seen[0][0] > RATE_OVER:
            self._seen.popleft()
        then, answered, tokens = self._seen[0]
        passed = now - then
        if passed <= 0:
            return 0.0, 0.0
        return (progress.answered - answered) / passed, (progress.output_tokens - tokens) / passed


class BarWatcher:
    """A live bar with counts, rates and the time left; `done` rows were answered in earlier sessions."""

    def __init__(self, total: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        wide = console.width >= 70
        columns = [TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn()]
        if wide:
            columns.append(TextColumn("{task.fields[facts]}"))
        self._bar = Bar(*columns, TimeRemainingColumn(), console=console, expand=True, transient=True)
        self._task: TaskID = self._bar.add_task("answering", total=total, completed=done, facts="")
        self._done = done
        self._total = total
        self._pace = Pace()
        self._bar.start()

    def watch(self, progress: Progress, now: float) -> None:
        rate, tokens = self._pace.update(progress, now)
        failed = f" {progress.failed_total} failed" if progress.failed else ""
        self._bar.update(
            self._task,
            completed=self._done + progress.answered + progress.failed_total,
            total=self._done + progress.rows,
            description="stopping" if progress.stopping else "answering",
            facts=f"{progress.running} running{failed} {rate:.3g}/s {tokens:.3g} tok/s",
        )

    def close(self) -> None:
        self._bar.stop()


class LineWatcher:
    """A plain or JSON line whenever `every` seconds have passed and something changed."""

    def __init__(self, total: int, done: int, *, as_json: bool) -> None:
        self._total = total
        self._done = done
        self._as_json = as_json
        self._every = 0.0 if as_json else LINE_EVERY
        self._last_time = 0.0
        self._last_facts: tuple[int, ...] = ()
        self._pace = Pace()

    def watch(self, progress: Progress, now: float) -> None:
        rate, tokens = self._pace.update(progress, now)
        facts = (progress.answered, progress.running, progress.failed_total)
        if facts == self._last_facts or now - self._last_time < self._every:
            return
        self._last_time, self._last_facts = now, facts
        total = self._done + progress.rows
        answered = self._done + progress.answered
        if self._as_json:
            line = json.dumps(
                {
                    "rows": total,
                    "answered": answered,
                    "running": progress.running,
                    "failed": progress.failed,
                    "requests_per_second": rate,
                    "output_tokens_per_second": tokens,
                }
            )
        else:
            line = (
                f"{answered} of {total} answered, {progress.running} running, {progress.failed_total} failed, "
                f"{rate:.3g} requests/s, {tokens:.3g} output tokens/s"
            )
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Nothing to put back."""


def watcher(total: int, done: int, *, quiet: bool, as_json: bool) -> BarWatcher | LineWatcher | None:
    """The one that suits: none if quiet, JSON lines if asked, a bar on a terminal, else plain lines."""
    if quiet:
        return None
    if as_json or not sys.stderr.isatty():
        return LineWatcher(total, done, as_json=as_json)
    return BarWatcher(total, done)

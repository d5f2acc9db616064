"""What a person sees while a run goes on: a bar on a terminal, a line now and then elsewhere, JSON lines if asked.

Everything goes to stderr, so that stdout holds results alone. Answers are never shown here: they may hold anything.
A screen that can't be written any more never ends a run.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tokenmill.cli.pace import SHORTEST_BAR, Facts, Pace, Stories, around_bar, plain_line
from tokenmill.cli.screen import line_for, printable, tell
from tokenmill.cli.story_counts import StoryCounts
from tokenmill.driver.progress import Progress
from tokenmill.record.store import Counts

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

#: Seconds between lines where there is no terminal.
LINE_EVERY = 10.0
JSON_EVERY = 1.0


class Bar:
    """One line that fits the terminal at any width, also when that changes."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.progress_bar import ProgressBar
        from rich.segment import Segment

        before, after = around_bar(self.facts, options.max_width)
        room = options.max_width - len(before) - len(after)
        yield Segment(before)
        if room >= SHORTEST_BAR:
            ended, rows = self.facts.way
            bar = ProgressBar(total=rows, completed=ended, width=room)
            yield from console.render(bar, options.update(width=room))
        yield Segment(after[: options.max_width])


class Silent:
    """Shows nothing; still tells the way back to whoever leaves at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_stopping = False
        self._told = 0

    def watch(self, progress: Progress, now: float) -> None:
        """Nothing to show."""

    def leave(self) -> None:
        self.close()
        tell(f"tokenmill: left at once; go on with: {line_for('resume', self._folder)}")

    def close(self) -> None:
        """Nothing to put back."""

    def _tell_once(self, progress: Progress) -> None:
        """Says what happened to nodes, and what a stop waits for, when it begins."""
        for note in progress.notes[self._told :]:
            tell(f"tokenmill: {printable(note)}")
        self._told = len(progress.notes)
        if progress.stopping and not self._is_stopping:
            self._is_stopping = True
            tell(f"stopping: {progress.running} requests in flight may still be answered; Ctrl-C again leaves at once")


class BarWatcher(Silent):
    """A live bar with counts, rates and the time left."""

    def __init__(self, folder: Path, pace: Pace, before: Counts) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(folder)
        self._pace = pace
        self._bar = Bar(self._pace.facts(Progress(rows=before.unfinished), 0.0))
        self._live = Live(self._bar, console=Console(stderr=True), auto_refresh=False, transient=True)
        self._live.start()

    def watch(self, progress: Progress, now: float) -> None:
        self._bar.facts = self._pace.facts(progress, now)
        self._tell_once(progress)
        with contextlib.suppress(OSError):
            self._live.refresh()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._live.stop()


class LineWatcher(Silent):
    """A plain or JSON line whenever `every` seconds have passed and something changed."""

    def __init__(self, folder: Path, pace: Pace, *, as_json: bool) -> None:
        super().__init__(folder)
        self._pace = pace
        self._as_json = as_json
        self._every = JSON_EVERY if as_json else LINE_EVERY
        self._next = 0.0 if as_json else LINE_EVERY
        self._last: tuple[int, int, int, bool] | None = None

    def watch(self, progress: Progress, now: float) -> None:
        facts = self._pace.facts(progress, now)
        if not self._as_json:
            self._tell_once(progress)
        counts = (facts.way[0], facts.ended, facts.running, facts.stopping)
        if now < self._next or counts == self._last:
            return
        self._next, self._last = now + self._every, counts
        tell(msgspec.json.encode(facts).decode() if self._as_json else plain_line(facts))


def watcher(folder: Path, before: Counts, stories: StoryCounts | None, *, quiet: bool, as_json: bool) -> Silent:
    """The one that suits: nothing if quiet, JSON lines if asked, a bar on a terminal, else plain lines.

    `before` and `stories`: what earlier sessions of the run left.
    """
    if quiet or sys.stderr is None:
        return Silent(folder)
    pace = Pace(before, Stories(rows=stories.rows, ended=stories.ended) if stories else None)
    if as_json or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        return LineWatcher(folder, pace, as_json=as_json)
    return BarWatcher(folder, pace, before)

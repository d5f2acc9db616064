"""How far a quantization is: a bar on a terminal, a line now and then elsewhere, JSON lines if asked; all on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from tokenmill.cli.pace import RATE_OVER, SHORTEST_BAR, duration
from tokenmill.cli.progress import JSON_EVERY, LINE_EVERY
from tokenmill.cli.screen import tell
from tokenmill.quant.crew import Progress
from tokenmill.quant.numbers import size

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

Watch = Callable[[Progress], None]


class Facts(Struct, frozen=True, kw_only=True):
    """Bytes of weights done, earlier runs included, and in all; the rate is that of the last RATE_OVER seconds."""

    done: int
    total: int
    bytes_per_second: float
    seconds_left: float | None

    @property
    def percent(self) -> int:
        return 100 * self.done // max(1, self.total)


class Pace:
    """Turns progress into facts."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def facts(self, progress: Progress) -> Facts:
        self._seen.append((progress.seconds, progress.done))
        while len(self._seen) > 2 and progress.seconds - self._seen[0][0] > RATE_OVER:
            self._seen.popleft()
        then, done_then = self._seen[0]
        passed = progress.seconds - then
        rate = (progress.done - done_then) / passed if passed > 0 else 0.0
        done = progress.earlier + progress.done
        left = round((progress.total - done) / rate, 1) if rate > 0 else None
        return Facts(done=done, total=progress.total, bytes_per_second=round(rate), seconds_left=left)


def words(facts: Facts, width: int) -> str:
    """What stands behind the bar; the more room, the more words."""
    rate = f"{size(facts.bytes_per_second)}/s"
    left = "" if facts.seconds_left is None else f"  {duration(facts.seconds_left)} left"
    variants = (
        f"  {size(facts.done)} of {size(facts.total)}  {facts.percent} %  {rate}{left}",
        f"  {facts.percent} %  {rate}{left}",
        f"  {facts.percent} %",
    )
    return next((text for text in variants if len(text) + SHORTEST_BAR <= width), variants[-1])


class Bar:
    """One line that fits the terminal at any width, also when that changes."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.progress_bar import ProgressBar
        from rich.segment import Segment

        after = words(self.facts, options.max_width)
        room = options.max_width - len(after)
        if room >= SHORTEST_BAR:
            bar = ProgressBar(total=max(1, self.facts.total), completed=self.facts.done, width=room)
            yield from console.render(bar, options.update(width=room))
        yield Segment(after[: options.max_width])


@contextlib.contextmanager
def watching(*, quiet: bool, as_json: bool) -> Iterator[Watch]:
    """What is called with progress; the terminal is put back at the end."""
    if quiet or sys.stderr is None:
        yield lambda _: None
    elif as_json or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        yield _lines(as_json=as_json)
    else:
        with _bar() as watch:
            yield watch


def _lines(*, as_json: bool) -> Watch:
    """A line whenever some seconds have passed; none for what is done before that."""
    pace = Pace()
    every = JSON_EVERY if as_json else LINE_EVERY
    following = [every]

    def watch(progress: Progress) -> None:
        facts = pace.facts(progress)
        if progress.seconds >= following[0]:
            following[0] = progress.seconds + every
            tell(msgspec.json.encode(facts).decode() if as_json else f"quantizing{words(facts, 200)}")

    return watch


@contextlib.contextmanager
def _bar() -> Iterator[Watch]:
    from rich.console import Console
    from rich.live import Live

    pace = Pace()
    bar = Bar(Facts(done=0, total=1, bytes_per_second=0, seconds_left=None))
    live = Live(bar, console=Console(stderr=True), auto_refresh=False, transient=True)

    def watch(progress: Progress) -> None:
        bar.facts = pace.facts(progress)
        with contextlib.suppress(OSError):
            live.refresh()

    live.start()
    try:
        yield watch
    finally:
        with contextlib.suppress(OSError):
            live.stop()

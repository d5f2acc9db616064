"""How far a sweep is: one line that is written again on a terminal, a line for each reading elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from tokenmill.bench.sweep import Step
from tokenmill.cli.screen import printable, tell
from tokenmill.report.numbers import seconds


@contextlib.contextmanager
def watching(*, quiet: bool) -> Iterator[Callable[[Step], None]]:
    """What is called before each reading; the terminal is put back at the end."""
    if quiet or sys.stderr is None:
        yield lambda _: None
    elif not sys.stderr.isatty() or os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        yield lambda step: tell(line_of(step, 200))
    else:
        with _rewritten() as watch:
            yield watch


@contextlib.contextmanager
def _rewritten() -> Iterator[Callable[[Step], None]]:
    from rich.console import Console
    from rich.status import Status
    from rich.text import Text

    console = Console(stderr=True)
    status = Status(Text(""), console=console)

    def watch(step: Step) -> None:
        with contextlib.suppress(OSError):
            status.update(Text(line_of(step, console.width - 3), no_wrap=True, overflow="ellipsis"))

    status.start()
    try:
        yield watch
    finally:
        with contextlib.suppress(OSError):
            status.stop()


def line_of(step: Step, width: int) -> str:
    """How far, how long still, how sure, and what is measured now; the last of it goes where there is little room."""
    parts = [f"{step.done + 1}/{step.total}"]
    if step.eta is not None:
        parts.append(f"{seconds(step.eta)} left")
    if step.spread is not None:
        parts.append(f"widest interval {100 * step.spread:.0f} %")
    name = f"{step.cell.group} {step.cell.title}".strip()
    parts.append(f"{name}, repeat {step.repeat + 1}")
    line = printable(", ".join(parts))
    return line if len(line) <= width else f"{line[: max(1, width - 3)]}..."

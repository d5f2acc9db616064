"""A sweep in words: its figures as people read them, what its laws say, and what is remarkable of each cell."""

from __future__ import annotations

from collections.abc import Iterator

from tokenmill.bench.columns import columns_of, figures_of
from tokenmill.bench.sweep import Results
from tokenmill.bench.table import Law, Row
from tokenmill.report.audit import SEQUENTIAL
from tokenmill.report.numbers import NONE, figure, seconds
from tokenmill.stats.interval import Interval
from tokenmill.stats.measure import Measure
from tokenmill.stats.target import Judged

PERCENT = ("efficiency", "success", "bound_ratio")
BYTES = ("memory", "more_memory", "memory_over_idle")


def value_of(name: str, value: Measure | Interval) -> str:
    """The figure of that name without its interval."""
    if value.value is None:
        return NONE
    if name in PERCENT:
        return f"{100 * value.value:.0f} %"
    if name in BYTES or value.unit == "B":
        return f"{value.value / 2**20:.0f} MiB"
    if name == "serial_fraction":
        return f"{value.value:.3f}"
    return seconds(value.value) if value.unit == "s" else figure(value.value)


def ends_of(value: Measure | Interval) -> str:
    """Its interval, in the unit that the figure itself is shown in; empty if there is none."""
    if not isinstance(value, Interval) or value.low is None or value.high is None or value.value is None:
        return ""
    if value.unit != "s":
        return f"{figure(value.low)} to {figure(value.high)}"
    low, high = seconds(value.low), seconds(value.high)
    unit = high.split()[-1]
    return f"{low.removesuffix(unit).rstrip()} to {high}" if low.endswith(f" {unit}") else f"{low} to {high}"


def of_law(law: Law) -> str:
    """What the scalability law says of a group."""
    where = " ".join(filter(None, (law.group, law.of)))
    if law.law is None:
        return f"{where}: scaling law {NONE} ({law.reason})"
    best = figure(law.best.value) if law.best.value is not None else f"{NONE} ({law.best.reason})"
    if law.law.is_extrapolated:
        best += " (beyond what was measured)"
    more = f"{100 * (law.one_more.value or 0):+.1f} %"
    return (
        f"{where}: serial {law.law.serial:.3f}, coherence {law.law.coherence:.4f}, best N {best}, one more than "
        f"{law.widest:g}: {more}"
    )


def of_cell(row: Row) -> Iterator[str]:
    """Faults, failures, unequal answers, and sequential work that was asked for as parallel."""
    yield from row.faults
    if row.failed:
        yield f"failed requests, of all repeats: {', '.join(f'{count} {kind}' for kind, count in row.failed.items())}"
    if row.equal:
        yield row.equal
    if row.reason and row.audit == SEQUENTIAL:
        yield f"{row.audit}: {row.reason}"


def of_target(judged: Judged) -> str:
    """The value of a target, or why there is none."""
    if judged.value is None:
        return judged.reason
    clear = "" if judged.is_clear in (True, None) else ", not clear: the interval holds the limit"
    reason = f": {judged.reason}" if judged.reason else ""
    return f"{value_of(judged.target.name, Measure(judged.value, judged.unit))}{clear}{reason}"


def reasons_of(results: Results) -> list[str]:
    """Why figures of the table are missing in all cells."""
    columns = columns_of(results.plan.suite)
    there = {name for row in results.rows for name, value in figures_of(row).items() if value.value is not None}
    found: dict[str, list[str]] = {}
    rows = sorted(
        results.rows, key=lambda row: row.seconds.value is None
    )  # what was measured says more than what wasn't
    for title, name in columns:
        told = [figures_of(row)[name].reason for row in rows if not row.cell.is_baseline or len(rows) == 1]
        if name not in there and (reason := next(filter(None, told), "")):
            found.setdefault(reason, []).append(title)
    return [f"{', '.join(titles)} {NONE}: {reason}" for reason, titles in found.items()]

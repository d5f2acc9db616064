"""A sweep as CSV: one table with a line for each cell, and one with a line for each reading."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from tokenmill.bench.columns import figures_of
from tokenmill.bench.sweep import Results
from tokenmill.report.visible import cell
from tokenmill.stats.interval import Interval

#: Figures of a reading, by the names of its fields.
OF_READING: tuple[str, ...] = (
    *("load", "wall", "seconds", "loading", "requests", "answered", "prompt_tokens", "output_tokens", "bound"),
    *("overlap", "width", "cpu", "energy"),
)


def cells(results: Results) -> bytes:
    """Factors, every figure with the ends of its interval, the claim, and what went wrong."""
    rows = results.rows
    factors = list(dict.fromkeys(name for row in rows for name in row.cell.factors))
    names = list(dict.fromkeys(name for row in rows for name in figures_of(row)))
    # A column of ends for what never has any would be empty.
    bounded = [name for name in names if any(isinstance(figures_of(row).get(name), Interval) for row in rows)]
    head = ["sweep", "group", *factors, "workers", "readings"]
    for name in names:
        head += [name, f"{name}_low", f"{name}_high"] if name in bounded else [name]
    lines: list[list[object]] = []
    for row in rows:
        line: list[object] = [results.plan.sweep, row.cell.group, *(row.cell.factors.get(name, "") for name in factors)]
        line += [row.cell.workers, row.readings]
        figures = figures_of(row)
        for name in names:
            found = figures.get(name)
            line.append(None if found is None else found.value)
            if name in bounded:
                line += [found.low, found.high] if isinstance(found, Interval) else [None, None]
        failed = "; ".join(f"{count} {kind}" for kind, count in row.failed.items())
        lines.append([*line, "" if row.claim is None else str(row.claim), row.audit, failed, "; ".join(row.faults)])
    return _written([*head, "claim", "audit", "failed", "faults"], lines)


def readings(results: Results) -> bytes:
    """In the order in which they were taken."""
    extras = list(dict.fromkeys(name for each in results.readings for name in each.extra))
    head = ["sweep", "cell", "repeat", "began", *OF_READING, "peak_rss", *extras, "answers_sha256", "failed", "fault"]
    lines: list[list[object]] = []
    for each in results.readings:
        line: list[object] = [results.plan.sweep, each.cell, each.repeat + 1, each.began]
        line += [getattr(each, name) for name in OF_READING]
        line += [sum(each.peak_rss.values()) or None, *(each.extra.get(name) for name in extras), each.digest]
        failed = "; ".join(f"{count} {kind}" for kind, count in each.failed.items())
        lines.append([*line, failed, each.fault])
    return _written(head, lines)


def _written(head: Sequence[str], lines: Iterable[Sequence[object]]) -> bytes:
    """UTF-8 with a head line; what isn't available is empty, and no cell can steer a terminal or run as a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(cell, head))
    for line in lines:
        writer.writerow(map(_text, line))
    return text.getvalue().encode()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.9g}"
    return str(value) if isinstance(value, int) else cell(str(value))

"""Output tokens a second of every way, over the size of the data and over the number of ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenmill.bench.parallel_ways import MODE, RANKS, SINGLE, group_of
from tokenmill.bench.table import Row
from tokenmill.report.numbers import figure
from tokenmill.report.plots import STROKES, Chart, Line, lines_chart

RATE = "output tokens/s"


def charts_of(sizes: Sequence[int], rows: Sequence[Row]) -> Iterator[Chart]:
    """One over sizes if there are several, and for the largest size one over ranks if there are several numbers."""
    measured = [row for row in rows if row.rate.value is not None]
    ways = dict.fromkeys(row.cell.title for row in measured)
    by_size = [
        _line(title, [(size, row) for size in sizes for row in measured if _is(row, size, title)]) for title in ways
    ]
    if len(sizes) > 1 and by_size:
        yield from _drawn("parallel-sizes", "Throughput over the size of the data", by_size, "texts")
    last = [row for row in measured if row.cell.group == group_of(max(sizes))]
    by_workers = [
        _line(mode, [(int(row.cell.factors[RANKS]), row) for row in last if row.cell.factors[MODE] == mode])
        for mode in dict.fromkeys(str(row.cell.factors[MODE]) for row in last if RANKS in row.cell.factors)
    ]
    if any(len(line.x) > 1 for line in by_workers):
        base = [row for row in last if row.cell.factors[MODE] == SINGLE]
        widest = max(x for line in by_workers for x in line.x)
        level = [_line(SINGLE, [(1, row), (int(widest), row)]) for row in base]
        title = f"Throughput over ranks, {group_of(max(sizes))}"
        yield from _drawn("parallel-workers", title, [*level, *by_workers], "ranks")


def _is(row: Row, size: int, title: str) -> bool:
    return row.cell.group == group_of(size) and row.cell.title == title


def _line(label: str, points: Sequence[tuple[int, Row]]) -> Line:
    ends = [(row.rate.value or 0.0, row.rate.low, row.rate.high) for _, row in points]
    return Line(
        label=label,
        x=tuple(float(place) for place, _ in points),
        y=tuple(value for value, _, _ in ends),
        low=tuple(value if low is None else low for value, low, _ in ends),
        high=tuple(value if high is None else min(high, 3 * value) for value, _, high in ends),
    )


def _drawn(name: str, title: str, lines: Sequence[Line], x: str) -> Iterator[Chart]:
    """As many lines as can be told apart, the best of them first."""
    best = sorted(lines, key=lambda line: -max(line.y))[: len(STROKES)]
    top = best[0]
    place = top.y.index(max(top.y))
    left = len(lines) - len(best)
    text = (
        f"With 95 % intervals. Most is {figure(max(top.y))} {RATE} ({top.label}, {top.x[place]:g})."
        f"{f' {left} slower ways are in the table alone.' if left else ''}"
    )
    yield lines_chart(name, title, text, tuple(best), x=x, y=RATE)

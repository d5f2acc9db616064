"""Which charts a sweep has, what each says in words, and how each is drawn; a chart without data isn't there.

Every reading is a dot, so that the spread behind an interval is seen; the sentence below a chart names its extremes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from tokenmill.bench.cell import Reading
from tokenmill.bench.suite import Draws, suite_of
from tokenmill.bench.sweep import Results
from tokenmill.bench.table import Row
from tokenmill.report.ink import light
from tokenmill.report.numbers import figure
from tokenmill.report.plots import Chart, Line, legend, lines_chart
from tokenmill.report.visible import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME_LENGTH, NARROW_LENGTH = 42, 24
MEBIBYTE = 2.0**20


class Spot(Struct, frozen=True, kw_only=True):
    """A cell in a chart of dots: a value for each reading, their mean, and its interval if there is one."""

    name: str
    values: tuple[float, ...]
    mean: float
    low: float | None = None
    high: float | None = None


def charts(results: Results) -> list[Chart]:
    """All charts of a sweep: how far more workers help, every reading, memory, and what the suite adds."""
    suite = suite_of(results.plan.suite)
    options: Any = msgspec.convert(results.plan.options, suite.options)
    groups = list(dict.fromkeys(row.cell.group for row in results.rows))
    found: list[Chart] = []
    for number, group in enumerate(groups):
        rows = [row for row in results.rows if row.cell.group == group]
        found += _by_workers(number, group, rows, suite.varied, suite.unit)
        found += _readings(number, group, rows, results.readings)
        found += _memory(number, group, rows, results.readings, suite.unit)
    return [*found, *(suite.charts(options, results.rows) if isinstance(suite, Draws) else ())]


def _by_workers(number: int, group: str, rows: Sequence[Row], varied: str, unit: str) -> Iterator[Chart]:
    """Speedup with the ideal line, and efficiency; one line for each set of cells that differ in `varied` alone."""
    base = next((row for row in rows if row.cell.is_baseline), None)
    sets: dict[str, list[Row]] = {}
    for row in rows:
        if varied in row.cell.factors and row is not base and row.speedup is not None and row.speedup.value is not None:
            others = ", ".join(str(value) for name, value in row.cell.factors.items() if name != varied)
            sets.setdefault(others or "speedup", []).append(row)
    if base is None or not any(len(found) > 1 for found in sets.values()):
        return
    speedups = tuple(_line(name, [base, *found], base) for name, found in sets.items())
    best = max((line for line in speedups), key=lambda line: max(line.y))
    place = best.y.index(max(best.y))
    name, title = f"{number}", _titled(group)
    yield lines_chart(
        f"speedup-{name}",
        f"Speedup{title}",
        f"Against {base.cell.title}, with 95 % intervals; the dotted line is the ideal. Most is {best.y[place]:.2f} "
        f"({best.label}, {best.x[place]:g}).",
        speedups,
        x=f"{unit.replace('request', 'requests', 1)}",
        y="speedup",
        ideal=True,
    )
    lines = tuple(_share(line, base) for line in speedups)
    least = min((line for line in lines), key=lambda line: min(line.y))
    yield lines_chart(
        f"efficiency-{name}",
        f"Efficiency{title}",
        f"Speedup for each {unit}; 100 % is the ideal. Least is {min(least.y):.0f} % ({least.label}, "
        f"{least.x[least.y.index(min(least.y))]:g}).",
        lines,
        x=f"{unit.replace('request', 'requests', 1)}",
        y="efficiency, %",
    )


def _line(label: str, rows: Sequence[Row], base: Row) -> Line:
    ordered = sorted(rows, key=lambda row: row.cell.workers)
    ratios = [(1.0, 1.0, 1.0) if row is base else _ends(row) for row in ordered]
    return Line(
        label=label,
        x=tuple(row.cell.workers for row in ordered),
        y=tuple(value for value, _, _ in ratios),
        low=tuple(low for _, low, _ in ratios),
        high=tuple(high for _, _, high in ratios),
    )


def _ends(row: Row) -> tuple[float, float, float]:
    ratio = row.speedup
    assert ratio is not None
    assert ratio.value is not None
    if ratio.low is None or ratio.high is None or ratio.high > 10 * ratio.value:
        return ratio.value, ratio.value, ratio.value  # an interval so wide would hide all others
    return ratio.value, ratio.low, ratio.high


def _share(line: Line, base: Row) -> Line:
    scale = [100 * base.cell.workers / workers for workers in line.x]

    def scaled(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(value * each for value, each in zip(values, scale, strict=True))

    return Line(label=line.label, x=line.x, y=scaled(line.y), low=scaled(line.low), high=scaled(line.high))


def _readings(number: int, group: str, rows: Sequence[Row], readings: Sequence[Reading]) -> Iterator[Chart]:
    """Every whole reading of a group: its seconds, or its throughput where the time was given and not measured."""
    by_cell: dict[str, list[Reading]] = {}
    for each in readings:
        if each.is_whole and each.seconds > 0:
            by_cell.setdefault(each.cell, []).append(each)
    is_timed = any(each.cost is not None for found in by_cell.values() for each in found)
    spots = []
    for row in rows:
        mean = row.rate if is_timed else row.seconds
        if mean.value is not None:
            found = by_cell.get(row.cell.key, [])
            values = tuple(each.output_tokens / each.seconds if is_timed else each.seconds for each in found)
            spots.append(Spot(name=row.cell.title, values=values, mean=mean.value, low=mean.low, high=mean.high))
    unit = "output tokens/s" if is_timed else "s"
    what = "Throughput" if is_timed else "Time"
    yield from dots_chart(f"readings-{number}", f"{what} of every reading{_titled(group)}", spots, unit)


def _memory(number: int, group: str, rows: Sequence[Row], readings: Sequence[Reading], unit: str) -> Iterator[Chart]:
    """The sum of the processes' peaks in every reading of a group, and what a worker more takes."""
    peaks: dict[str, list[float]] = {}
    for each in readings:
        if each.is_whole and each.peak_rss:
            peaks.setdefault(each.cell, []).append(sum(each.peak_rss.values()) / MEBIBYTE)
    spots = [
        Spot(name=row.cell.title, values=tuple(found), mean=sum(found) / len(found))
        for row in rows
        if (found := peaks.get(row.cell.key))
    ]
    more = [row.more_memory.value / MEBIBYTE for row in rows if row.more_memory.value is not None]
    text = f" Beyond the baseline, a {unit} takes {max(more):.1f} MiB more at most." if more else ""
    yield from dots_chart(f"memory-{number}", f"Peak memory of every reading{_titled(group)}", spots, "MiB", text)


def dots_chart(name: str, title: str, spots: Sequence[Spot], unit: str, text: str = "") -> Iterator[Chart]:
    """A line for each cell: readings as dots, their mean as a bar across, its interval as a thick line."""
    if not spots:
        return
    low, high = min(spots, key=lambda spot: spot.mean), max(spots, key=lambda spot: spot.mean)

    def draw(axes: Axes, narrow: bool) -> None:
        _draw_spots(axes, spots, NARROW_LENGTH if narrow else NAME_LENGTH)
        axes.set_xlabel(unit)
        legend(axes, 3, narrow)

    height = 84 + 19 * len(spots)
    count = sum(len(spot.values) for spot in spots)
    yield Chart(
        name=name,
        title=title,
        text=f"{count} readings of {len(spots)} cells, from {figure(low.mean)} {unit} ({shortened(low.name, 80)}) to "
        f"{figure(high.mean)} {unit} ({shortened(high.name, 80)}) in the mean.{text}",
        draw=draw,
        height=height,
        narrow_height=height + 16,
    )


def _draw_spots(axes: Axes, spots: Sequence[Spot], letters: int) -> None:
    places = range(len(spots))
    ends = [
        (spot.mean if spot.low is None else spot.low, spot.mean if spot.high is None else spot.high) for spot in spots
    ]
    most = max(max(spot.values, default=spot.mean) for spot in spots)
    if any(spot.low is not None for spot in spots):
        left = [min(max(low, 0.0), 1.15 * most) for low, _ in ends]
        right = [min(high, 1.15 * most) for _, high in ends]
        axes.hlines(places, left, right, color=light("sky"), linewidth=7, label="95 % interval")
    where = [(value, place) for place, spot in enumerate(spots) for value in spot.values]
    axes.plot(
        [value for value, _ in where],
        [place for _, place in where],
        "o",
        markersize=4,
        markerfacecolor="none",
        color=light("ink"),
        markeredgewidth=0.9,
        label="reading",
    )
    axes.plot(
        [spot.mean for spot in spots], places, "|", markersize=13, color=light("red"), markeredgewidth=2, label="mean"
    )
    axes.set_yticks(places, [_clipped(spot.name, letters) for spot in spots], color=light("ink"))
    axes.set_ylim(len(spots) - 0.4, -0.6)
    axes.set_xlim(0, 1.15 * most)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _clipped(name: str, letters: int) -> str:
    """The end of a long name is what tells it from its neighbours, so the middle is left out."""
    shown = shortened(name, 400)
    if len(shown) <= letters:
        return shown
    head = letters // 3
    return f"{shown[:head]}\u2026{shown[-(letters - head - 1) :]}"


def _titled(group: str) -> str:
    return f": {shortened(group, 60)}" if group else ""

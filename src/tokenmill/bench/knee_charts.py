"""Throughput against latency of a node under load, with its knee; one point for each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tokenmill.bench.knee_findings import drift_of, knee_of
from tokenmill.bench.table import Row
from tokenmill.report.ink import light
from tokenmill.report.numbers import figure, seconds
from tokenmill.report.plots import STROKES, Chart, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: From this ratio of latencies on, the short ones can't be told apart on an even scale.
UNEVEN = 12.0


def charts_of(rows: Sequence[Row], varied: str) -> Iterator[Chart]:
    """`varied` is the factor that counts requests in flight."""
    drawn = [row for row in rows if row.latency.value is not None and row.rate.value is not None]
    if len(drawn) < 2:
        return
    knee = knee_of([row for row in drawn if varied in row.cell.factors], varied)
    marked = next((row for row in drawn if knee and row.cell.factors.get(varied) == knee.load), None)

    def draw(axes: Axes, narrow: bool) -> None:
        for number, group in enumerate(dict.fromkeys(row.cell.group for row in drawn)):
            _line(axes, number, group, [row for row in drawn if row.cell.group == group], narrow)
        if marked is not None:
            axes.plot([_rate(marked)], [_p50(marked)], "o", markersize=15, mfc="none", mec=light("ink"), label="knee")
        _scale(axes, drawn)
        axes.set_xlim(0, 1.12 * max(map(_rate, drawn)))
        axes.set_xlabel("output tokens/s")
        axes.set_ylabel("latency p50, s; whiskers up to p95")
        legend(axes, 3, narrow)

    yield Chart(
        name="knee",
        title="Throughput against latency",
        text=_said(drawn, marked),
        draw=draw,
        height=320,
        narrow_height=320,
    )


def _line(axes: Axes, number: int, group: str, rows: Sequence[Row], narrow: bool) -> None:
    colour, stroke, marker = STROKES[number % len(STROKES)]
    ordered = sorted(rows, key=lambda row: row.cell.workers)
    x, y = [_rate(row) for row in ordered], [_p50(row) for row in ordered]
    above = [max(0.0, (row.latency95.value or _p50(row)) - _p50(row)) for row in ordered]
    ink = light(colour)
    axes.errorbar(x, y, yerr=([0.0] * len(y), above), fmt="none", ecolor=ink, elinewidth=1.2, capsize=0)
    axes.plot(x, y, stroke, color=ink, marker=marker, markersize=4, label=group)
    for row in ordered:
        load = str(next(iter(row.cell.factors.values())))
        is_left = bool(number) and not narrow
        offset = (-5, 4) if is_left else (5, -11)
        axes.annotate(
            load,
            (_rate(row), _p50(row)),
            xytext=offset,
            textcoords="offset points",
            ha="right" if is_left else "left",
            color=ink,
            fontsize=9,
        )


def _scale(axes: Axes, rows: Sequence[Row]) -> None:
    """Even from zero, or by factors where the latencies differ by many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    shortest, longest = min(map(_p50, rows)), max(row.latency95.value or _p50(row) for row in rows)
    if longest < UNEVEN * shortest:
        axes.set_ylim(0, 1.08 * longest)
        return
    axes.set_yscale("log")
    axes.set_ylim(0.7 * shortest, 1.4 * longest)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _said(rows: Sequence[Row], marked: Row | None) -> str:
    least, most = min(rows, key=_rate), max(rows, key=_rate)
    said = f"From {_place(least)} to {_place(most)}."
    if marked is not None:
        said += f" The knee is {_place(marked)}."
    drifts = [(row, drift_of(row)) for row in rows]
    if over := [row.cell.title for row, drift in drifts if drift is not None and drift.is_saturated]:
        said += f" Over-saturated: {', '.join(over)}."
    return said


def _place(row: Row) -> str:
    return f"{figure(_rate(row))} tokens/s at {seconds(_p50(row))} ({row.cell.title})"


def _rate(row: Row) -> float:
    return row.rate.value or 0.0


def _p50(row: Row) -> float:
    return row.latency.value or 0.0

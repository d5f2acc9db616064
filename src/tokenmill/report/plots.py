"""The charts of a run: matplotlib draws them, from numbers that a `Picture` holds.

matplotlib is imported when something is drawn, never before, and without its global state. Text stays text, names from
outside are made visible first and never read as formulas. Every chart comes with a sentence that says what it shows,
for those who can't see it. A chart is drawn wide or narrow; a narrow one is for a phone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from tokenmill.errors import UsageError
from tokenmill.report.ink import light

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Points to an inch, and the size of a chart in points: one column of a page, a whole page, a phone.
INCH = 72
HALF, FULL, NARROW = 560, 1080, 350
FONT = 11.0

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tokenmill",
    "font.family": "DejaVu Sans",
    "font.size": FONT,
    "text.parse_math": False,
    "text.usetex": False,
    "path.simplify": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": light("line"),
    "axes.labelcolor": light("soft"),
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.unicode_minus": False,
    "grid.color": light("line"),
    "grid.linewidth": 0.6,
    "xtick.color": light("soft"),
    "ytick.color": light("soft"),
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "text.color": light("ink"),
    "figure.facecolor": light("paper"),
    "axes.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": FONT,
    "lines.linewidth": 1.8,
}


class Chart(Struct, frozen=True, kw_only=True):
    """A chart by its `name`. `text` says in words what it shows; `draw` fills axes, the flag is True for a phone.

    `width` and `height` are in points; a narrow chart has its own height if it needs one.
    """

    name: str
    title: str
    text: str
    draw: Callable[[Axes, bool], None]
    width: int = HALF
    height: int = 230
    narrow_height: int = 0


def figure(chart: Chart, *, narrow: bool = False) -> Figure:
    """The chart drawn; save it inside `drawing`."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UsageError(f"charts need {error.name}: pip install 'tokenmill[plots]'") from error
    width = NARROW if narrow else chart.width
    height = chart.narrow_height if narrow and chart.narrow_height else chart.height
    with drawing():
        made = Figure(figsize=(width / INCH, height / INCH), layout="constrained")
        axes = made.add_subplot()
        axes.margins(x=0)
        chart.draw(axes, narrow)
    return made


@contextmanager
def drawing() -> Iterator[None]:
    """Our settings for as long as something is drawn or saved."""
    try:
        from matplotlib import rc_context
    except ModuleNotFoundError as error:
        raise UsageError(f"charts need {error.name}: pip install 'tokenmill[plots]'") from error
    with rc_context(SETTINGS), warnings.catch_warnings():
        # The reader's own fonts show letters that the one measured with here doesn't have.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*does not support.* natively", category=UserWarning)
        yield


class Line(Struct, frozen=True, kw_only=True):
    """A line through points; `low` and `high` are the intervals of its values, if they have any."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


#: How lines differ besides their colour.
STROKES = (("blue", "-", "o"), ("red", "--", "s"), ("green", "-.", "^"), ("purple", ":", "D"), ("orange", "-", "v"))


def lines_chart(
    name: str, title: str, text: str, lines: tuple[Line, ...], *, x: str, y: str, ideal: bool = False
) -> Chart:
    """Lines with their intervals, and with `ideal` the line on which twice as much gives twice as much."""

    def draw(axes: Axes, narrow: bool) -> None:
        for number, line in enumerate(lines):
            colour, stroke, marker = STROKES[number % len(STROKES)]
            ink = light(colour)
            if line.low:
                errors = (
                    [max(0.0, value - low) for value, low in zip(line.y, line.low, strict=True)],
                    [max(0.0, high - value) for value, high in zip(line.y, line.high, strict=True)],
                )
                axes.errorbar(line.x, line.y, yerr=errors, fmt="none", ecolor=ink, elinewidth=1.2, capsize=0)
            axes.plot(line.x, line.y, stroke, color=ink, marker=marker, markersize=4, label=line.label)
        most = max((value for line in lines for value in line.x), default=1.0)
        if ideal:
            axes.plot([0, most], [0, most], color=light("grey"), linewidth=1, linestyle=(0, (1, 2)), label="ideal")
        axes.set_xlim(0, 1.04 * most)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        legend(axes, len(lines) + ideal, narrow)

    return Chart(name=name, title=title, text=text, draw=draw, height=280, narrow_height=280)


def legend(axes: Axes, entries: int, narrow: bool) -> None:
    """Above the chart, where it hides nothing."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=min(entries, 2 if narrow else 5),
        borderaxespad=0.2,
        borderpad=0.1,
        handlelength=1.6,
        columnspacing=1.2,
        handletextpad=0.5,
    )


def amounts_axis(axes: Axes, unit: str) -> None:
    """Amounts from 0 upwards, at round numbers."""
    from matplotlib.ticker import MaxNLocator

    most = axes.dataLim.ymax
    axes.set_ylim(0, 1.08 * most if 0 < most < inf else 1)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 4, 5, 10]))
    axes.set_ylabel(unit)


def seconds_axis(axes: Axes, makespan: float) -> None:
    """Time along the bottom, in the unit that fits."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    unit, size = ("h", 3600.0) if makespan >= 7200 else ("min", 60.0) if makespan >= 600 else ("s", 1.0)
    ticks = [tick * size for tick in MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(0, makespan / size)]
    axes.set_xticks([tick for tick in ticks if tick <= makespan * 1.0001])
    axes.set_xlim(0, makespan)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / size:g}"))
    axes.set_xlabel(f"{unit} since the start of the run")

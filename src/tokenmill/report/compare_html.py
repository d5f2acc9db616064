"""Several runs side by side as one HTML file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.report import page
from tokenmill.report.as_html import draw
from tokenmill.report.compare import HEAD, Compared, Comparison, cells
from tokenmill.report.definitions import DEFINITIONS
from tokenmill.report.ink import light
from tokenmill.report.numbers import measure, seconds
from tokenmill.report.plots import FULL, Chart, legend, seconds_axis
from tokenmill.report.svg import Sheet
from tokenmill.report.visible import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME_LENGTH = 22

#: The definition behind each column of the table, as in `HEAD`.
DEFINED = ("makespan", "bound", "ratio", "output_tokens_per_second", "latency", "failed", "gap", "against_first")


def html(comparison: Comparison) -> str:
    """The whole page. Draws with matplotlib."""
    sheet = Sheet()
    chart = draw(chart_of(comparison), sheet)
    return page.render(
        "compare.html",
        sheet.css,
        title=f"{len(comparison.runs)} runs side by side",
        chart=chart,
        head=list(zip(HEAD, DEFINED, strict=True)),
        rows=[(each.run, cells(each), each.against_first.reason) for each in comparison.runs],
        comparison=comparison,
        definitions={name: DEFINITIONS[name] for name in DEFINED},
    )


def chart_of(comparison: Comparison) -> Chart:
    """The makespan of every run, with the part of it that the bound explains."""
    runs = comparison.runs

    def fill(axes: Axes, narrow: bool) -> None:
        most = max(map(_makespan, runs), default=0.0) or 1.0
        bounds = [each.certificate.bound.bound.value or 0.0 for each in runs]
        missing = [_makespan(each) - bound for each, bound in zip(runs, bounds, strict=True)]
        places = range(len(runs))
        axes.barh(places, bounds, height=0.62, color=light("green"), linewidth=0, label="lower bound")
        axes.barh(places, missing, left=bounds, height=0.62, color=light("red"), linewidth=0, label="missing")
        for place, each in enumerate(runs):
            axes.text(_makespan(each) + 0.01 * most, place, seconds(_makespan(each)), va="center")
        axes.set_yticks(places, [shortened(each.run, NAME_LENGTH) for each in runs], color=light("ink"))
        axes.set_ylim(len(runs) - 0.5, -0.5)
        seconds_axis(axes, 1.18 * most)
        axes.grid(visible=False, axis="y")
        legend(axes, 2, narrow)

    spoken = (f"{shortened(each.run, NAME_LENGTH)} took {_said(each)}" for each in runs)
    height = 90 + 28 * len(runs)
    return Chart(
        name="makespans",
        title="Makespan and bound",
        text=f"{'; '.join(spoken)}.",
        draw=fill,
        width=FULL,
        height=height,
        narrow_height=height,
    )


def _makespan(compared: Compared) -> float:
    return compared.certificate.metrics.makespan.value or 0.0


def _said(compared: Compared) -> str:
    return f"{seconds(_makespan(compared))}, bound {measure(compared.certificate.bound.bound)}"

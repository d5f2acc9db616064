"""Which charts a run has, what each says in words, and how each is drawn; a chart without data isn't there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tokenmill.report.flow import Series
from tokenmill.report.gantt import LOADING, Gantt
from tokenmill.report.ink import light
from tokenmill.report.numbers import figure, seconds
from tokenmill.report.picture import Distribution, Picture, Step
from tokenmill.report.plots import FULL, NARROW, STROKES, Chart, amounts_axis, legend, seconds_axis
from tokenmill.report.visible import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME_LENGTH = 18

#: Kinds of bars, how they are called and drawn: ink, and the share of the lane's height they fill.
BARS = {
    "loading": ("loading the model", "grey", 0.9),
    "reading": ("reading the prompt", "sky", 0.62),
    "answered": ("answered", "blue", 0.62),
    "failed": ("failed", "red", 0.94),
    "cancelled": ("cancelled", "orange", 0.34),
    "lost": ("lost", "purple", 0.94),
}


def charts(picture: Picture) -> list[Chart]:
    """All charts of a run, in the order in which they answer: why, when, how long."""
    return [
        *_waterfall(picture),
        *_lanes(picture),
        *_over_time(
            picture.in_flight,
            "in-flight",
            "Requests in flight",
            "requests",
            f"{max(picture.in_flight.values, default=0):.4g} at most, mean over each of "
            f"{len(picture.in_flight.values)} steps.",
        ),
        *_over_time(
            picture.width,
            "batch-width",
            "Batch width",
            "sequences",
            "Sequences in the engine's forward passes, weighted by tokens, each answer at its own mean: "
            f"{figure(max(picture.width.values, default=0))} in the widest of {len(picture.width.values)} steps.",
        ),
        *_over_time(
            picture.throughput,
            "throughput",
            "Throughput",
            "output tokens/s",
            f"{figure(max(picture.throughput.values, default=0))} output tokens/s in the best of "
            f"{len(picture.throughput.values)} steps.",
        ),
        *_distributions(picture),
        *_memory(picture),
    ]


def _waterfall(picture: Picture) -> Iterator[Chart]:
    steps = picture.steps
    if not steps:
        return

    def draw(axes: Axes, _narrow: bool) -> None:
        for place, step in enumerate(steps):
            ink = {"bound": "green", "generating": "green", "makespan": "ink"}.get(step.name, "red")
            axes.barh(place, step.seconds, left=step.start, height=0.62, color=light(ink), linewidth=0)
            _label(axes, place, step, picture.makespan)
        ends = [step.start + step.seconds for step in steps[:-1]]
        for place, end in enumerate(ends):
            axes.plot([end, end], [place - 0.31, place + 1.31], color=light("soft"), linewidth=0.7)
        axes.set_yticks(range(len(steps)), [step.label for step in steps], color=light("ink"))
        axes.set_ylim(len(steps) - 0.5, -0.5)
        seconds_axis(axes, picture.makespan)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)

    parts = [f"{step.label} {seconds(step.seconds)}" for step in steps[:-1]]
    height = 70 + 25 * len(steps)
    yield Chart(
        name="waterfall",
        title="From the bound to the makespan" if steps[0].name == "bound" else "Where the time of the slots went",
        text=f"{', '.join(parts)}; together the makespan, {seconds(steps[-1].seconds)}.",
        draw=draw,
        height=height,
        narrow_height=height,
    )


def _label(axes: Axes, place: int, step: Step, makespan: float) -> None:
    """The seconds beside the bar, on the side where there is room."""
    end = step.start + step.seconds
    is_right = end < 0.8 * makespan
    if is_right:
        axes.text(end + 0.012 * makespan, place, seconds(step.seconds), va="center", ha="left")
    elif step.start > 0.25 * makespan:
        axes.text(step.start - 0.012 * makespan, place, seconds(step.seconds), va="center", ha="right")
    else:
        axes.text(end - 0.012 * makespan, place, seconds(step.seconds), va="center", ha="right", color=light("paper"))


def _lanes(picture: Picture) -> Iterator[Chart]:
    wide, narrow = picture.gantt, picture.narrow_gantt
    if not wide.lanes:
        return
    requests = sum(bar.requests for lane in wide.lanes for bar in lane.bars)
    bars = sum(bar.requests > 0 for lane in wide.lanes for bar in lane.bars)
    text = f"What each slot worked on: {requests:,} attempts on {len(wide.lanes)} slots."
    if len(wide.lanes) < wide.slots:
        text += f" {len(wide.lanes)} of {wide.slots} slots are shown, evenly chosen."
    if bars < requests:
        text += f" Attempts too short to be seen are drawn as one with their neighbours, in {bars:,} bars."
    height = 86 + max(5, min(18, 340 // len(wide.lanes))) * len(wide.lanes)
    yield Chart(
        name="timeline",
        title="Timeline of the slots",
        text=text,
        draw=lambda axes, is_narrow: _draw_lanes(axes, narrow if is_narrow else wide, picture.makespan, is_narrow),
        width=FULL,
        height=height,
        narrow_height=height + 20,
    )


def _draw_lanes(axes: Axes, shown: Gantt, makespan: float, narrow: bool) -> None:
    spans: dict[str, list[tuple[float, float, int]]] = {kind: [] for kind in BARS}
    least = makespan / (NARROW if narrow else FULL)
    for place, lane in enumerate(shown.lanes):
        for bar in lane.bars:
            if bar.kind != LOADING and bar.requests == 1 and bar.wrote - bar.start > least:
                spans["reading"].append((bar.start, bar.wrote, place))
                spans[bar.kind].append((bar.wrote, bar.end, place))
            else:
                spans[bar.kind].append((bar.start, bar.end, place))
    for kind, (label, ink, height) in BARS.items():
        if spans[kind]:
            _draw_spans(axes, spans[kind], label, ink, height, least)
    axes.set_ylim(len(shown.lanes) - 0.5, -0.5)
    places, names = _lane_names(shown)
    axes.set_yticks(places, names, color=light("ink"))
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    seconds_axis(axes, makespan)
    legend(axes, sum(map(bool, spans.values())), narrow)


def _draw_spans(
    axes: Axes, spans: list[tuple[float, float, int]], label: str, ink: str, height: float, least: float
) -> None:
    """All bars of a kind as one path of thick strokes would hide gaps, so each is a rectangle of that path."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    vertices, codes = [], []
    for start, end, place in spans:
        # A hair's breadth between neighbours shows where one ends and the next begins.
        right = max(end - 0.4 * least, start + 0.6 * least)
        low, high = place - height / 2, place + height / 2
        vertices += [(start, low), (right, low), (right, high), (start, high), (start, low)]
        codes += [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    axes.add_patch(PathPatch(Path(vertices, codes), facecolor=light(ink), linewidth=0, label=label))


def _lane_names(shown: Gantt) -> tuple[list[float], list[str]]:
    """Every slot by name where there is room, else each node in the middle of its lanes."""
    if len(shown.lanes) <= 10:
        names = [f"{shortened(lane.node, NAME_LENGTH)} · {lane.slot}" for lane in shown.lanes]
        return [float(place) for place in range(len(names))], names
    of_node: dict[str, list[int]] = {}
    for place, lane in enumerate(shown.lanes):
        of_node.setdefault(lane.node, []).append(place)
    middles = [sum(places) / len(places) for places in of_node.values()]
    return middles, [shortened(name, NAME_LENGTH) for name in of_node]


def _over_time(series: Series, name: str, title: str, unit: str, text: str) -> Iterator[Chart]:
    if not any(series.values):
        return

    def draw(axes: Axes, _narrow: bool) -> None:
        edges = [place * series.step for place in range(len(series.values) + 1)]
        axes.stairs(series.values, edges, fill=True, color=light("sky"), alpha=0.35, linewidth=0)
        axes.stairs(series.values, edges, baseline=None, color=light("blue"), linewidth=1.3)
        amounts_axis(axes, unit)
        seconds_axis(axes, edges[-1])

    yield Chart(name=name, title=title, text=text, draw=draw)


def _distributions(picture: Picture) -> Iterator[Chart]:
    shown = picture.distributions
    if not shown:
        return
    least = min((value for each in shown for value in each.values if value > 0), default=1e-3)
    most = max(each.values[-1] for each in shown)
    low = max(least * 0.8, most / 1e6)

    def draw(axes: Axes, narrow: bool) -> None:
        for each, (ink, stroke, _) in zip(shown, STROKES, strict=False):
            shares = [100 * place / (len(each.values) - 1) for place in range(len(each.values))]
            axes.plot([max(value, low) for value in each.values], shares, stroke, color=light(ink), label=each.label)
        _log_seconds(axes, low, most * 1.15)
        axes.set_ylim(0, 100)
        axes.set_yticks([0, 25, 50, 75, 100])
        axes.set_ylabel("% of requests within")
        legend(axes, len(shown), narrow)

    yield Chart(
        name="distribution",
        title="Distribution of times",
        text="; ".join(map(_in_words, shown)) + ".",
        draw=draw,
        height=250,
    )


def _in_words(shown: Distribution) -> str:
    last = len(shown.values) - 1
    half, most = shown.values[last // 2], shown.values[-1]
    return f"{shown.label} of {shown.count:,} requests: half within {seconds(half)}, all within {seconds(most)}"


def _log_seconds(axes: Axes, low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(low, high)
    decades = [base * 10.0**power for power in range(-6, 7) for base in (1, 3)]
    inside = [tick for tick in decades if low <= tick <= high]
    ticks = inside if len(inside) < 6 else inside[::2]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(ticks, [_short(tick) for tick in ticks])
    axes.set_xlabel("time (logarithmic)")


def _short(value: float) -> str:
    unit, size = ("s", 1.0) if value >= 0.999 else ("ms", 1e-3) if value >= 0.999e-3 else ("µs", 1e-6)
    return f"{value / size:g} {unit}"


def _memory(picture: Picture) -> Iterator[Chart]:
    shown = picture.memory
    if not shown:
        return

    def draw(axes: Axes, narrow: bool) -> None:
        for trace, (ink, stroke, _) in zip(shown, STROKES, strict=False):
            axes.plot(trace.times, trace.values, stroke, color=light(ink), label=shortened(trace.label, NAME_LENGTH))
        amounts_axis(axes, shown[0].unit)
        seconds_axis(axes, picture.makespan)
        legend(axes, len(shown), narrow)

    peaks = (f"{trace.label} {figure(trace.largest)} {trace.unit}" for trace in shown)
    yield Chart(
        name="memory", title="Memory over time", text=f"Largest samples: {', '.join(peaks)}.", draw=draw, height=250
    )

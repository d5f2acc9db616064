"""What the charts of a run draw, as numbers: bounded in size, whatever the run's, and free of any drawing library."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from msgspec import Struct

from tokenmill.report.causes import NAMES
from tokenmill.report.certificate import Certificate
from tokenmill.report.flow import POINTS, Series, level
from tokenmill.report.gantt import Gantt, gantt
from tokenmill.report.measure import percentile
from tokenmill.report.memory import Trace, memory
from tokenmill.report.timeline import Timeline

#: Columns of a lane where the picture is narrow.
NARROW_COLUMNS = 260

#: Points of a distribution.
STEPS = 120


class Step(Struct, frozen=True):
    """A part of the makespan: `seconds` from `start` on; `name` is `bound`, `makespan` or a cause."""

    name: str
    label: str
    start: float
    seconds: float


class Distribution(Struct, frozen=True):
    """`values[i]` is the value below which `i / (len(values) - 1)` of `count` requests lie."""

    label: str
    count: int
    values: tuple[float, ...]


class Picture(Struct, frozen=True, kw_only=True):
    """Everything there is to draw of one run."""

    makespan: float
    steps: tuple[Step, ...]
    gantt: Gantt
    narrow_gantt: Gantt
    in_flight: Series
    throughput: Series
    width: Series
    distributions: tuple[Distribution, ...]
    memory: tuple[Trace, ...] = ()


def picture(timeline: Timeline, certificate: Certificate) -> Picture:
    """Draws nothing; says what to draw."""
    return Picture(
        makespan=timeline.makespan,
        steps=_steps(certificate),
        gantt=gantt(timeline),
        narrow_gantt=gantt(timeline, columns=NARROW_COLUMNS),
        in_flight=certificate.audit.in_flight,
        throughput=_throughput(timeline),
        width=_width(timeline),
        distributions=_distributions(timeline),
        memory=memory(timeline, certificate.resources),
    )


def _steps(certificate: Certificate) -> tuple[Step, ...]:
    """From the bound through every cause to the makespan; without a bound, through the states of the slots."""
    makespan, why, spent = certificate.metrics.makespan.value or 0.0, certificate.causes, certificate.states
    if why is not None and certificate.bound.bound.value is not None:
        parts = [("bound", "lower bound", certificate.bound.bound.value)]
        causes = [(name, label, float(getattr(why, name))) for name, label in NAMES.items()]
        parts += sorted(causes, key=lambda part: -part[2])
    else:
        names = {"generating": "generating"} | {name: label for name, label in NAMES.items() if name != "slower"}
        parts = [(name, label, float(getattr(spent, name))) for name, label in names.items()]
    steps, reached = [], 0.0
    for name, label, seconds in parts:
        if name == "bound" or seconds > 0.0005 * makespan:
            steps.append(Step(name, label, reached, seconds))
        reached += seconds
    return (*steps, Step("makespan", "makespan", 0.0, makespan)) if makespan > 0 else ()


def _throughput(timeline: Timeline) -> Series:
    """Output tokens of answers a second; an answer's tokens are spread evenly over the time it was written in."""
    return _tokens(timeline, list(timeline.answered()))


def _width(timeline: Timeline) -> Series:
    """Mean batch width of the engine's forward passes, weighted by tokens; 0 where nothing was written."""
    known = [index for index in timeline.answered() if timeline.width[index] > 0]
    tokens = _tokens(timeline, known)
    wide = _tokens(timeline, known, [timeline.width[index] for index in known])
    least = 1e-3 * max(tokens.values, default=0.0)
    pairs = zip(wide.values, tokens.values, strict=True)
    return Series(tokens.step, tuple(above / below if below > least else 0.0 for above, below in pairs))


def _tokens(timeline: Timeline, chosen: list[int], factors: Iterable[float] | None = None) -> Series:
    makespan = timeline.makespan
    # Answers that came whole at once have no length; a part of a step keeps sums exact enough.
    shortest = makespan / POINTS / 20
    opens, closes, rates = array("d"), array("d"), array("d")
    for index, factor in zip(chosen, factors or [1.0] * len(chosen), strict=True):
        closed = timeline.finished[index]
        opened = max(0.0, min(timeline.wrote[index], closed - shortest))
        opens.append(opened)
        closes.append(max(closed, opened + shortest))
        rates.append(factor * timeline.output[index] / (closes[-1] - opened) if makespan > 0 else 0.0)
    return level(opens, closes, makespan, rates)


def _distributions(timeline: Timeline) -> tuple[Distribution, ...]:
    answered = list(timeline.answered())
    latency = [timeline.finished[index] - timeline.dispatched[index] for index in answered]
    ttft = [timeline.first[index] - timeline.dispatched[index] for index in answered]
    tpot = [
        (timeline.finished[index] - timeline.first[index]) / (timeline.output[index] - 1)
        for index in answered
        if timeline.output[index] > 1 and timeline.streamed[index]
    ]
    samples = {"TPOT": tpot, "TTFT": ttft, "latency": latency}
    return tuple(found for label, values in samples.items() if (found := _distribution(label, values)) is not None)


def _distribution(label: str, values: list[float]) -> Distribution | None:
    ordered = sorted(value for value in values if value == value)
    if not ordered or ordered[-1] <= 0:
        return None
    steps = min(STEPS, len(ordered) - 1) or 1
    return Distribution(label, len(ordered), tuple(percentile(ordered, place / steps) for place in range(steps + 1)))

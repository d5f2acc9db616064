"""Memory over time, as it was sampled on this host: each process of the run, and each GPU's own, on the run's clock."""

from __future__ import annotations

import math

from msgspec import Struct

from tokenmill.footprint import Curve
from tokenmill.report.resources import Resources, SessionFigures
from tokenmill.report.timeline import Timeline

#: Traces that a chart can hold apart: those that reach highest.
MOST = 5

GIB, MIB = 2**30, 2**20


class Trace(Struct, frozen=True, kw_only=True):
    """A named amount of memory in `unit` at `times`, seconds on the run's clock; NaN where nothing was sampled."""

    label: str
    unit: str
    times: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def largest(self) -> float:
        return max((value for value in self.values if value == value), default=0.0)


def memory(timeline: Timeline, resources: Resources | None) -> tuple[Trace, ...]:
    """The largest sample of every interval; none if nothing was sampled."""
    points: dict[str, list[tuple[float, float]]] = {}
    for session in resources.sessions if resources is not None else ():
        for label, curve in _curves(session):
            own = points.setdefault(label, [])
            if own:  # between two sessions there is nothing
                own.append((own[-1][0], math.nan))
            for time, value in zip(session.times, curve.maxima, strict=False):
                own.append((timeline.at(session.session, time), math.nan if value is None else value))
    known = {label: own for label, own in points.items() if any(value == value for _, value in own)}
    most = max((value for own in known.values() for _, value in own if value == value), default=0.0)
    unit, size = ("GiB", GIB) if most >= GIB else ("MiB", MIB)
    traces = [
        Trace(
            label=label,
            unit=unit,
            times=tuple(time for time, _ in own),
            values=tuple(value / size for _, value in own),
        )
        for label, own in known.items()
    ]
    return tuple(sorted(traces, key=lambda trace: -trace.largest)[:MOST])


def _curves(session: SessionFigures) -> list[tuple[str, Curve]]:
    """Every curve under a name of its own."""
    names = [process.name for process in session.processes]
    found = [
        (process.name if names.count(process.name) == 1 else f"{process.name} {process.pid}", process.rss_curve)
        for process in session.processes
    ]
    return [*found, *((f"memory of {gpu.name}", gpu.memory_curve) for gpu in session.gpus)]

"""What really ran at the same time, and what to call it."""

from __future__ import annotations

from msgspec import Struct

from tokenmill.report.bound import WIDTH_MEASURED
from tokenmill.report.flow import POINTS, Series, level
from tokenmill.report.measure import Measure
from tokenmill.report.rates import Work
from tokenmill.report.states import States
from tokenmill.report.timeline import Timeline

SEQUENTIAL = "sequential in disguise"
TRUE_BATCH = "true batch"
OVERLAPPING = "overlapping"
AS_ASKED = "one at a time as asked"
NOTHING_WAITING = "one at a time, nothing else was waiting"
NOTHING = "n/a"

TRUE_BATCH_WIDTH = 1.5

#: Work counts as waiting if for this share of the time some other row was in flight or could have been sent.
COMPANY = 0.5


class Audit(Struct, frozen=True, kw_only=True):
    """How parallel the run was. Widths are of the engine's forward passes, if it reports them."""

    width_asked: int
    overlap: Measure
    width_mean: Measure
    width_max: Measure
    most_in_flight: int
    work_waiting: Measure
    in_flight: Series
    verdict: str
    reason: str


def audit(timeline: Timeline, wrote: Work, states: States) -> Audit:
    """The audit of a run, from its generation intervals, reported widths and requests in flight."""
    overlap = wrote.overall.overlap
    tokens, silent = sum(timeline.width_tokens), "the engine doesn't report its batch width"
    width = sum(timeline.width_sum) / tokens if tokens else None
    company = states.in_company / states.running if states.running > 0 else None
    verdict, reason = _verdict(timeline, overlap, width, company or 0.0)
    none = "nothing was generated"
    return Audit(
        width_asked=timeline.facts.width_asked,
        overlap=Measure(overlap, "requests") if overlap else Measure(None, "requests", none),
        width_mean=Measure(width, "sequences", "" if tokens else silent),
        width_max=Measure(max(timeline.width_max), "sequences") if tokens else Measure(None, "sequences", silent),
        most_in_flight=states.most_in_flight,
        work_waiting=Measure(company, "", none if company is None else ""),
        in_flight=in_flight(timeline),
        verdict=verdict,
        reason=reason,
    )


def in_flight(timeline: Timeline, points: int = POINTS) -> Series:
    """Requests in flight over time: exact means over `points` equal steps of the makespan."""
    return level(timeline.dispatched, timeline.finished, timeline.makespan, points=points)


def _verdict(timeline: Timeline, overlap: float, width: float | None, company: float) -> tuple[str, str]:
    """The first rule that fits, and the numbers that made it fit."""
    facts = timeline.facts
    if not overlap:
        return NOTHING, "nothing was generated"
    shown = f"overlap {overlap:.2f}" + (f", mean batch width {width:.2f}" if width is not None else "")
    if facts.width_asked <= 1 and overlap < WIDTH_MEASURED:
        return AS_ASKED, f"one request at a time was asked for; {shown}"
    # Nodes of one slot each run side by side at width 1, as they should.
    batches = any(node.slots > 1 for node in facts.nodes)
    is_narrow = width is not None and width < WIDTH_MEASURED and batches
    if overlap < WIDTH_MEASURED or is_narrow:
        if company < COMPANY:
            return NOTHING_WAITING, f"{facts.width_asked} at a time were asked for; {shown}"
        return SEQUENTIAL, f"{facts.width_asked} at a time were asked for and work was waiting; {shown}"
    if width is not None and width >= TRUE_BATCH_WIDTH:
        return TRUE_BATCH, shown
    if width is not None:
        return OVERLAPPING, shown
    streamed = [timeline.streamed[index] for index in timeline.answered()]
    if 2 * sum(streamed) < len(streamed):
        return OVERLAPPING, f"{shown}; counted from dispatch, as answers came whole, so it may be queueing"
    return OVERLAPPING, f"{shown}; the engine doesn't report its batch width"

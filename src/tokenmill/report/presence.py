"""When each node was there, loading, held back or ready, on the run's clock.

Within a session a node is there from its first load or readiness to its last, gaps between included: after a crash
it could have been back at once, so the gap is missing time (cooling) and no excuse. The node that came first is
there from the start of the session, since nothing but the driver kept it from beginning then.
"""

from __future__ import annotations

from msgspec import Struct

from tokenmill.report.facts import NodeFacts, Span
from tokenmill.report.timeline import Timeline

ABSENT, LOADING, COOLING, READY = range(4)

Interval = tuple[float, float]


class Phase(Struct, frozen=True):
    """From `time` on, node number `node` is in this state."""

    time: float
    node: int
    state: int


def presence(timeline: Timeline) -> list[list[Interval]]:
    """Per node, the interval of each session it was there in."""
    nodes, sessions = timeline.facts.nodes, len(timeline.facts.sessions)
    first: list[list[Interval]] = [[] for _ in nodes]
    seen = _attempts_seen(timeline)
    for session in range(sessions):
        there = {}
        for index, node in enumerate(nodes):
            spans = [*_on_clock(timeline, node.loads + node.up, session), *seen.get((index, session), ())]
            if spans:
                there[index] = (min(start for start, _ in spans), max(end for _, end in spans))
        earliest = min((start for start, _ in there.values()), default=0.0)
        for index, (start, end) in there.items():
            first[index].append((timeline.begins[session] if start == earliest else start, end))
    return first


def phases(timeline: Timeline, there: list[list[Interval]]) -> list[Phase]:
    """Every change of state of every node, in order of time."""
    found: list[Phase] = []
    for index, node in enumerate(timeline.facts.nodes):
        for start, end in there[index]:
            found.extend(_session_phases(timeline, node, index, start, end))
            found.append(Phase(end, index, ABSENT))
    # A node that ends one session at the moment the next begins must be absent first.
    return sorted(found, key=lambda phase: (phase.time, phase.state != ABSENT))


def union_length(intervals: list[Interval]) -> float:
    """Seconds covered by at least one of the intervals."""
    covered, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def _session_phases(timeline: Timeline, node: NodeFacts, index: int, start: float, end: float) -> list[Phase]:
    session = max(number for number, begin in enumerate(timeline.begins) if begin <= start)
    loads = _on_clock(timeline, node.loads, session)
    up = _on_clock(timeline, node.up, session)
    held = _on_clock(timeline, node.cooling, session)
    known_from = min((begin for begin, _ in loads + up), default=start)
    cuts = {start, known_from, *(edge for spans in (loads, up, held) for span in spans for edge in span)}
    found = []
    for cut in sorted(cut for cut in cuts if start <= cut < end):
        if _covers(loads, cut):
            state = LOADING
        elif _covers(held, cut) or (up and cut >= known_from and not _covers(up, cut)):
            state = COOLING
        else:
            state = READY
        found.append(Phase(cut, index, state))
    return found


def _on_clock(timeline: Timeline, spans: tuple[Span, ...], session: int) -> list[Interval]:
    return [
        (timeline.at(session, span.start), timeline.at(session, span.end)) for span in spans if span.session == session
    ]


def _covers(spans: list[Interval], time: float) -> bool:
    return any(start <= time < end for start, end in spans)


def _attempts_seen(timeline: Timeline) -> dict[tuple[int, int], list[Interval]]:
    """Per node and session, from the first dispatch to the last end: a node that answers is there."""
    seen: dict[tuple[int, int], list[Interval]] = {}
    session, begins = 0, timeline.begins
    for node, sent, finished in zip(timeline.node, timeline.dispatched, timeline.finished, strict=True):
        while session + 1 < len(begins) and sent >= begins[session + 1]:
            session += 1
        known = seen.get((node, session))
        if known is None:
            seen[node, session] = [(sent, finished)]
        else:
            start, end = known[0]
            if finished > end:
                known[0] = (start, finished)
    return seen

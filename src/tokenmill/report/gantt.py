"""What each slot worked on and when, as bars that can be seen: a picture has so many columns, and no more bars.

Requests are placed on the slots of their node first come, first served, as the states of the slots are counted. Bars
narrower than a column are drawn as one with their neighbours; where kinds differ within a column, the one that went
worse is shown, so a failure is never hidden by answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from msgspec import Struct

from tokenmill.report.timeline import OUTCOMES, Timeline

#: What a bar shows, in order of gravity.
LOADING, READING = "loading", "reading"
KINDS = (LOADING, *OUTCOMES)

#: The most bars in a picture and columns in a lane; with many lanes each has fewer.
MOST_BARS, COLUMNS = 9000, 900
MOST_LANES = 32


class Bar(Struct, frozen=True):
    """From `start` to `end` in seconds; output began at `wrote`. `requests` tells how many it stands for."""

    start: float
    wrote: float
    end: float
    kind: str
    requests: int = 1


class Lane(Struct, frozen=True):
    """One slot of a node, its bars in order of time."""

    node: str
    slot: int
    bars: tuple[Bar, ...]


class Gantt(Struct, frozen=True):
    """The lanes that are drawn, of `slots` that worked at all."""

    lanes: tuple[Lane, ...]
    slots: int


def gantt(timeline: Timeline, *, columns: int = COLUMNS) -> Gantt:
    """Lanes of the slots that worked; of more than can be told apart, some of them, evenly chosen."""
    placed = _placed(timeline)
    count = min(len(placed), MOST_LANES)
    shown = [placed[place * len(placed) // count] for place in range(count)]
    columns = min(columns, MOST_BARS // max(1, len(shown)))
    column = timeline.makespan / columns if timeline.makespan > 0 else 1.0
    nodes = timeline.facts.nodes
    loads = [list(_loads(timeline, node)) for node in range(len(nodes))]
    lanes = (
        Lane(nodes[node].name, slot + 1, tuple(_merged([*loads[node], *bars], column))) for node, slot, bars in shown
    )
    return Gantt(tuple(lanes), len(placed))


def _loads(timeline: Timeline, node: int) -> Iterator[Bar]:
    for span in timeline.facts.nodes[node].loads:
        start, end = timeline.at(span.session, span.start), timeline.at(span.session, span.end)
        yield Bar(start, start, end, LOADING, 0)


def _placed(timeline: Timeline) -> list[tuple[int, int, list[Bar]]]:
    """(node, slot, bars) of every slot that worked."""
    names = {number: name for name, number in OUTCOMES.items()}
    lanes: dict[tuple[int, int], list[Bar]] = {}
    free: list[list[int]] = [[] for _ in timeline.facts.nodes]
    busy: list[list[tuple[float, int]]] = [[] for _ in timeline.facts.nodes]
    used = [0] * len(free)
    for index in sorted(range(len(timeline)), key=timeline.started.__getitem__):
        node, start, end = timeline.node[index], timeline.started[index], timeline.finished[index]
        while busy[node] and busy[node][0][0] <= start:
            heappush(free[node], heappop(busy[node])[1])
        if free[node]:
            slot = heappop(free[node])
        elif used[node] < max(1, timeline.facts.nodes[node].slots):
            slot, used[node] = used[node], used[node] + 1
        else:  # ended while it queued: it never had a slot
            continue
        heappush(busy[node], (end, slot))
        bar = Bar(start, max(start, timeline.wrote[index]), end, names[timeline.outcome[index]])
        lanes.setdefault((node, slot), []).append(bar)
    return [(node, slot, lanes[node, slot]) for node, slot in sorted(lanes)]


def _merged(bars: list[Bar], column: float) -> Iterator[Bar]:
    """Bars of one lane, those too narrow to be seen joined with what stands next to them."""
    last: Bar | None = None
    for bar in sorted(bars, key=lambda each: each.start):
        if last is None:
            last = bar
        elif int(bar.start / column) == int(last.start / column) or _blend(last, bar, column):
            last = _joined(last, bar)
        else:
            yield last
            last = bar
    if last is not None:
        yield last


def _blend(last: Bar, bar: Bar, column: float) -> bool:
    """Whether two bars of a kind, both made of narrow ones, stand next to each other."""
    is_narrow = bar.end - bar.start < 2 * column and (last.end - last.start) / max(1, last.requests) < 2 * column
    return bar.kind == last.kind and is_narrow and bar.start - last.end < column


def _joined(last: Bar, bar: Bar) -> Bar:
    kind = max(last.kind, bar.kind, key=KINDS.index)
    return Bar(last.start, last.start, max(last.end, bar.end), kind, last.requests + bar.requests)

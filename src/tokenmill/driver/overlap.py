"""How long a run generated and judged, and how much of the judging cost no time of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from msgspec import Struct

from tokenmill.driver.sequel import SPAN
from tokenmill.pipeline.story import split
from tokenmill.record.store import Record
from tokenmill.record.stories import Stories

Interval = tuple[float, float]


class Times(Struct, frozen=True, kw_only=True):
    """Seconds over all sessions. `generating`: at least one prompt was in flight. `both`: judging went on meanwhile.

    `by_stage` sums the time that prompts of a stage were in flight, however many at once.
    """

    makespan: float
    generating: float
    judging: float
    both: float
    by_stage: dict[str, float]


def times_of(record: Record, first: str) -> Times:
    """The times of a run from its record; `first` is the stage of the input rows' own prompts."""
    makespan = generating = judging = both = 0.0
    by_stage: dict[str, float] = {}
    judged: dict[int, list[Interval]] = {}
    for session, _, kind, start, finish in record.spans():
        if kind == SPAN and finish is not None:
            judged.setdefault(session, []).append((start, finish))
    stories = Stories(record.path)
    try:
        busy_in = _busy(stories, first, by_stage)
    finally:
        stories.close()
    for each in record.sessions():
        makespan += each.ended or 0.0
        busy, judges = busy_in.get(each.number, []), union(sorted(judged.get(each.number, [])))
        generating += length(busy)
        judging += length(judges)
        both += length(busy) + length(judges) - length(union(sorted([*busy, *judges])))
    return Times(makespan=makespan, generating=generating, judging=judging, both=both, by_stage=by_stage)


def _busy(stories: Stories, first: str, by_stage: dict[str, float]) -> dict[int, list[Interval]]:
    """When prompts were in flight, by session; adds the time of each to its stage."""

    def intervals(flights: Iterable[tuple[int, str, float, float]]) -> Iterator[Interval]:
        for _, key, start, finish in flights:
            stage = split(key)[1] if key else first
            by_stage[stage] = by_stage.get(stage, 0.0) + finish - start
            yield start, finish

    grouped = itertools.groupby(stories.flights(), key=lambda flight: flight[0])
    return {session: union(intervals(flights)) for session, flights in grouped}


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same moments as intervals that don't touch; both in order of their starts."""
    merged: list[Interval] = []
    for start, finish in intervals:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], finish))
        else:
            merged.append((start, finish))
    return merged


def length(intervals: Iterable[Interval]) -> float:
    return sum(finish - start for start, finish in intervals)

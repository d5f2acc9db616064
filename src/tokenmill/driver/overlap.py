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
#: (session, key of the prompt, start, finish).
Flight = tuple[int, str, float, float]


class Times(Struct, frozen=True, kw_only=True):
    """Seconds over all sessions. `generating`: at least one prompt was in flight. `both`: judging went on meanwhile.

    `by_stage`: at least one prompt of the stage was in flight; stages may be so at the same time.
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
    """When prompts were in flight, by session; adds the time of each session to its stages."""
    grouped = itertools.groupby(stories.flights(), key=lambda flight: flight[0])
    return {session: union(_counted(flights, first, by_stage)) for session, flights in grouped}


def _counted(flights: Iterable[Flight], first: str, by_stage: dict[str, float]) -> Iterator[Interval]:
    """The flights of one session, in order of their starts, as intervals; adds what is new of each to its stage."""
    until: dict[str, float] = {}
    for _, key, start, finish in flights:
        stage = split(key)[1] if key else first
        seen = until.get(stage, start)
        by_stage[stage] = by_stage.get(stage, 0.0) + max(0.0, finish - max(start, seen))
        until[stage] = max(finish, seen)
        yield start, finish


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

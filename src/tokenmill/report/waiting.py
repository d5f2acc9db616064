"""When rows were waiting to be sent, beyond the plain case of one dispatch that became the answer.

A row waits from its arrival until it is sent. After a failed attempt it is backing off until it is sent again, or
until the session ends; after a cancelled or lost one it waits at once. A row whose last attempt failed, or that has
its answer, is done.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import groupby

from msgspec import Struct

from tokenmill.report.timeline import ANSWERED, CANCELLED, FAILED, LOST, Timeline


class Change(Struct, frozen=True):
    """At `time`, this many more rows wait to be sent, and this many more are backing off."""

    time: float
    waiting: int
    backing: int = 0


class Waiting(Struct, frozen=True):
    """`is_plain[i]`: attempt i is the only one of its row and took it for good. `changes`: all else, in time order, but
    for the arrivals during the run.
    """

    is_plain: bytearray
    changes: list[Change]


def waiting(timeline: Timeline) -> Waiting:
    """Rows waiting as changes; a plain attempt takes one waiting row at its dispatch."""
    facts = timeline.facts
    is_plain = _plain(timeline)
    late = sum(arrival.rows for arrival in facts.arrivals)
    changes = [Change(0.0, max(0, facts.rows_total - facts.unsent - late))]
    others = sorted((timeline.row[index], index) for index, plain in enumerate(is_plain) if not plain)
    for _, pairs in groupby(others, key=lambda pair: pair[0]):
        changes.extend(_row_changes(timeline, [index for _, index in pairs]))
    changes.sort(key=lambda change: change.time)
    return Waiting(is_plain, changes)


def _plain(timeline: Timeline) -> bytearray:
    seen = bytearray(max(timeline.row, default=-1) + 1)
    for row in timeline.row:
        seen[row] = min(2, seen[row] + 1)
    return bytearray(
        seen[row] == 1 and outcome not in (CANCELLED, LOST)
        for row, outcome in zip(timeline.row, timeline.outcome, strict=True)
    )


def _row_changes(timeline: Timeline, attempts: list[int]) -> list[Change]:
    """The changes made by all attempts of one row, which are in order of dispatch and may overlap."""
    sent, finished, outcome = timeline.dispatched, timeline.finished, timeline.outcome
    changes = [Change(sent[attempts[0]], -1)]
    last = attempts[0]
    for index in attempts[1:]:
        if sent[index] >= finished[last]:
            changes += _gap(timeline, last, sent[index])
        if finished[index] >= finished[last]:
            last = index
    is_answered = any(outcome[index] == ANSWERED for index in attempts)
    if not is_answered and outcome[last] != FAILED:
        changes.append(Change(finished[last], 1))
    return changes


def _gap(timeline: Timeline, last: int, sent: float) -> list[Change]:
    """Between the end of attempt `last` and the next dispatch of its row."""
    ended = timeline.finished[last]
    if timeline.outcome[last] != FAILED:
        return [Change(ended, 1), Change(sent, -1)]
    session = bisect_right(timeline.begins, ended) - 1
    until = min(sent, timeline.session_end(session))
    changes = [Change(ended, 0, 1), Change(until, 0, -1)]
    if until < sent:
        changes += [Change(until, 1), Change(sent, -1)]
    return changes

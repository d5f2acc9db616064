"""The attempts of a run as columns of numbers on one clock, in order of dispatch.

A million attempts are about 75 MB here and would be 400 MB as objects, so everything the certificate says is computed
from these columns. The clock starts at 0 with the first session; each later session begins where the one before it
ended, so the time between sessions doesn't exist. The last session ends with its last attempt.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush, heapreplace

from tokenmill.event import Attempt
from tokenmill.report.facts import RunFacts, Session

ANSWERED, FAILED, CANCELLED, LOST = range(4)
OUTCOMES = {"answered": ANSWERED, "failed": FAILED, "cancelled": CANCELLED, "lost": LOST}

#: What `moments` says of an attempt's interval; an end comes before a start at the same time.
CLOSES, OPENS, DISPATCHED = range(3)

#: No interval is shorter than this, seconds, so that no rate is infinite.
INSTANT = 1e-6


class Timeline:
    """One entry per attempt in every column, ordered by dispatch; times are seconds on the run's clock.

    `first` is NaN where no first token was seen. `started` is when a slot of the node was free for the attempt, first
    come first served: an engine with look-ahead is sent more than it has slots for. `wrote` is where its output began:
    the first token of a streamed answer, else `started`, because nothing more is known then. `streamed` is 1 where the
    output came in pieces, so that reading the prompt and writing can be told apart. `gap` is the mean time
    between the chunks of the attempt, NaN for fewer than two. `width` is the mean batch width of the passes that made
    it, 0 if the engine doesn't say.
    """

    COLUMNS = (
        "row",
        "node",
        "outcome",
        "dispatched",
        "finished",
        "first",
        "prompt",
        "output",
        "chunks",
        "gap",
        "width",
    )

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts
        self.row = array("q")
        self.node = array("i")
        self.outcome = array("b")
        self.dispatched = array("d")
        self.finished = array("d")
        self.first = array("d")
        self.prompt = array("i")
        self.output = array("i")
        self.chunks = array("i")
        self.gap = array("d")
        self.width = array("f")
        self.started = array("d")
        self.wrote = array("d")
        self.streamed = bytearray()
        self.itl_sum = 0.0
        self.itl_gaps = 0
        self.itl_max = 0.0
        #: Per node: output tokens whose width is known, and the sum of width over those tokens; largest width.
        self.width_tokens = [0] * len(facts.nodes)
        self.width_sum = [0.0] * len(facts.nodes)
        self.width_max = [0] * len(facts.nodes)
        self.begins = _session_begins(facts.sessions)
        self.makespan = 0.0

    def __len__(self) -> int:
        return len(self.row)

    def at(self, session: int, time: float) -> float:
        """A time of a session's clock on the run's clock, kept inside that session."""
        start, end = self.facts.sessions[session].start, self.session_end(session)
        return min(max(self.begins[session] + time - start, self.begins[session]), end)

    def session_end(self, session: int) -> float:
        """The end of a session on the run's clock; the last one ends with the run."""
        return self.begins[session + 1] if session + 1 < len(self.begins) else self.makespan

    def answered(self) -> Iterator[int]:
        """The places of the attempts that became answers."""
        return (index for index, outcome in enumerate(self.outcome) if outcome == ANSWERED)


def collect(facts: RunFacts, attempts: Iterable[Attempt]) -> Timeline:
    """Reads the attempts once, in any order; order of dispatch costs least."""
    timeline = Timeline(facts)
    _read(timeline, attempts)
    _sort(timeline)
    timeline.makespan = _makespan(timeline)
    _find_starts(timeline)
    return timeline


def moments(opens: array[float], closes: array[float], dispatched: array[float]) -> Iterator[tuple[float, int, int]]:
    """Dispatch, start and end of every interval as (time, what, index), in order of time.

    Intervals come in order of dispatch and none opens before its dispatch, so only those in flight are held.
    """
    heap: list[tuple[float, int, int]] = []
    for index, sent in enumerate(dispatched):
        while heap and heap[0][0] <= sent:
            yield heappop(heap)
        yield sent, DISPATCHED, index
        heappush(heap, (closes[index], CLOSES, index))
        if opens[index] > sent:
            heappush(heap, (opens[index], OPENS, index))
        else:
            yield sent, OPENS, index
    while heap:
        yield heappop(heap)


def _session_begins(sessions: tuple[Session, ...]) -> list[float]:
    begins = [0.0]
    for session in sessions[:-1]:
        begins.append(begins[-1] + max(0.0, session.end - session.start))
    return begins


def _read(timeline: Timeline, attempts: Iterable[Attempt]) -> None:
    sessions = timeline.facts.sessions
    last = len(sessions) - 1
    shifts = [begin - session.start for begin, session in zip(timeline.begins, sessions, strict=True)]
    for attempt in attempts:
        session, is_answer = attempt.session, attempt.outcome == "answered"
        output = attempt.output_tokens if is_answer else 0  # others may be estimated, and no pace is made of guesses
        start, end = sessions[session].start, sessions[session].end
        ended = end if attempt.outcome == "lost" else attempt.finished
        if session != last:
            ended = min(ended, end)
        sent = max(start, min(attempt.dispatched, ended))
        ended = max(sent, ended)
        first = attempt.first_token
        shift = shifts[session]
        timeline.row.append(attempt.row)
        timeline.node.append(attempt.node)
        timeline.outcome.append(OUTCOMES[attempt.outcome])
        timeline.dispatched.append(sent + shift)
        timeline.finished.append(ended + shift)
        timeline.first.append(math.nan if first is None else min(max(first, sent), ended) + shift)
        timeline.prompt.append(attempt.prompt_tokens if is_answer else 0)
        timeline.output.append(output)
        timeline.chunks.append(attempt.chunks)
        timeline.width.append(attempt.width_mean)
        gaps = attempt.chunks - 1
        timeline.gap.append(attempt.itl_sum / gaps if gaps > 0 else math.nan)
        if gaps > 0 and is_answer:
            timeline.itl_sum += attempt.itl_sum
            timeline.itl_gaps += gaps
            timeline.itl_max = max(timeline.itl_max, attempt.itl_max)
        if attempt.width_mean > 0:
            node = attempt.node
            timeline.width_tokens[node] += output
            timeline.width_sum[node] += attempt.width_mean * output
            timeline.width_max[node] = max(timeline.width_max[node], attempt.width_max)


def _sort(timeline: Timeline) -> None:
    sent = timeline.dispatched
    if all(sent[index] <= sent[index + 1] for index in range(len(sent) - 1)):
        return
    order = sorted(range(len(sent)), key=sent.__getitem__)
    for name in Timeline.COLUMNS:
        column = getattr(timeline, name)
        setattr(timeline, name, array(column.typecode, map(column.__getitem__, order)))


def _makespan(timeline: Timeline) -> float:
    sessions, begin = timeline.facts.sessions, timeline.begins[-1]
    finish = max(timeline.finished, default=begin)
    in_last_session = bool(timeline.dispatched) and timeline.dispatched[-1] >= begin
    if in_last_session and finish > begin:
        return finish
    return begin + (max(0.0, sessions[-1].end - sessions[-1].start) if sessions else 0.0)


def _find_starts(timeline: Timeline) -> None:
    slots = [max(1, node.slots) for node in timeline.facts.nodes]
    free: list[list[float]] = [[] for _ in slots]  # per node, when each slot in use gets free
    session = 0
    for index, sent in enumerate(timeline.dispatched):
        while session + 1 < len(timeline.begins) and sent >= timeline.begins[session + 1]:
            session += 1
            free = [[] for _ in slots]
        node, finish = timeline.node[index], timeline.finished[index]
        heap = free[node]
        if len(heap) < slots[node]:
            heappush(heap, finish)
            start = sent
        else:
            start = max(sent, heap[0])
            heapreplace(heap, max(finish, heap[0]))
        start, first = min(start, finish), timeline.first[index]
        # NaN is not before anything; chunks are 0 where they weren't counted.
        streamed = first < finish and timeline.output[index] != 1 and timeline.chunks[index] != 1
        timeline.started.append(start)
        timeline.streamed.append(streamed)
        timeline.wrote.append(first if streamed else start)

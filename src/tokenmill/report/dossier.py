"""Everything a report tells of one run, gathered: the certificate, what to draw, what failed, what took longest."""

from __future__ import annotations

from msgspec import Struct

from tokenmill.report.certificate import Certificate
from tokenmill.report.picture import Picture
from tokenmill.report.timeline import Timeline

#: The requests that are named as the slowest.
SLOWEST = 5

#: Letters of an answer or a message that are shown.
EXCERPT = 240


class Failure(Struct, frozen=True, kw_only=True):
    """A class of failure with one of its rows, as it was recorded."""

    kind: str
    count: int
    custom_id: str
    message: str


class Slow(Struct, frozen=True, kw_only=True):
    """One of the slowest answers, times in seconds."""

    custom_id: str
    node: str
    latency: float
    output_tokens: int
    text: str


class Work(Struct, frozen=True, kw_only=True):
    """What a run was asked to do: runs are equal work if these are."""

    input: str
    model: str
    options: str
    rows: int


class Dossier(Struct, frozen=True, kw_only=True):
    """One run. `about` are facts of the run and its machine, in the order in which they are shown."""

    run: str
    certificate: Certificate
    picture: Picture
    work: Work
    about: tuple[tuple[str, str], ...]
    failures: tuple[Failure, ...]
    slowest: tuple[Slow, ...]
    #: Output tokens of each answered row, to see whether two runs wrote alike; gathered for comparisons only.
    tokens: dict[int, int]


def slowest(timeline: Timeline) -> list[int]:
    """The places of the attempts that took longest to become an answer, longest first."""
    answered = sorted(timeline.answered(), key=lambda index: timeline.dispatched[index] - timeline.finished[index])
    return answered[:SLOWEST]


def tokens(timeline: Timeline) -> dict[int, int]:
    """Output tokens by row."""
    return {timeline.row[index]: timeline.output[index] for index in timeline.answered()}

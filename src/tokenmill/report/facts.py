"""What the report must be told besides the attempts: nodes, sessions, rows, and the best paces known from before.

A run that was resumed has several sessions, and every time here is on the clock of its session.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator

from msgspec import Struct, field

from tokenmill.footprint import Footprint


class Span(Struct, frozen=True):
    """From `start` to `end`, seconds on the clock of session number `session`."""

    session: int
    start: float
    end: float


class Session(Struct, frozen=True):
    """One start of the run. `end` is the last moment known of it, also when the driver was killed."""

    start: float
    end: float


class Arrivals(Struct, frozen=True):
    """`rows` rows that arrived together during the run, not at its start."""

    session: int
    time: float
    rows: int


class ManyArrivals(Collection[Arrivals]):
    """Arrivals as columns: a run with a recipe has about as many as prompts, at 16 bytes each."""

    def __init__(self, arrivals: Iterable[tuple[int, float, int]]) -> None:
        self._session, self._time, self._rows = array("i"), array("d"), array("i")
        for session, time, rows in arrivals:
            self._session.append(session)
            self._time.append(time)
            self._rows.append(rows)

    def __len__(self) -> int:
        return len(self._time)

    def __iter__(self) -> Iterator[Arrivals]:
        return map(Arrivals, self._session, self._time, self._rows)

    def __contains__(self, arrivals: object) -> bool:
        return any(each == arrivals for each in self)


class NodeFacts(Struct, frozen=True, kw_only=True):
    """One node of the run; `Attempt.node` is its place in `RunFacts.nodes`.

    `loads`: when it was loading. `up`: when it could take requests. `cooling`: when it was up but held back on
    purpose (backoff after failures, suspects run alone); times between two `up` spans count as cooling anyway.
    """

    name: str
    model: str
    digest: str
    slots: int
    host: str = "localhost"
    device: str = "cpu"
    loads: tuple[Span, ...] = ()
    up: tuple[Span, ...] = ()
    cooling: tuple[Span, ...] = ()


class Pace(Struct, frozen=True, kw_only=True):
    """The best a device has shown with one model; 0 means never measured.

    `prefill` (P) and `decode` (R): tokens per second. `single_stream`: seconds per output token of one request.
    `width`: the largest mean batch width.
    """

    prefill: float = 0.0
    decode: float = 0.0
    single_stream: float = 0.0
    width: float = 0.0


class DevicePace(Struct, frozen=True, kw_only=True):
    """A pace and what it is the pace of; this is what is stored between runs."""

    host: str
    device: str
    digest: str
    pace: Pace


class Shared(Struct, frozen=True, kw_only=True):
    """What was measured of nodes that may share a device: tokens/s of all `together` and of the best one `alone`.

    `low`, `high`: the 95 % interval of what together brings, as a part of alone. `date` is the day of the measurement.
    """

    nodes: tuple[str, ...]
    together: float
    alone: float
    low: float
    high: float
    is_worth_it: bool
    date: str

    @property
    def gain(self) -> float:
        return self.together / self.alone - 1 if self.alone > 0 else 0.0


class RunFacts(Struct, frozen=True, kw_only=True):
    """A run without its attempts.

    `width_asked`: requests that were meant to run at the same time, over all nodes. `unsent`: rows that failed before
    anything was sent (too long, for instance), a part of `failed`. Rows not named in `arrivals` were there at the
    start; those are in order of time. `stored`: the best paces known before this run. `strategy` and `order` as they
    were chosen, `shared` what is known of nodes that may share a device: advice depends on them. `footprints`: by
    number of the session.
    """

    nodes: tuple[NodeFacts, ...]
    sessions: tuple[Session, ...]
    width_asked: int
    rows_total: int
    answered: int
    failed: dict[str, int] = field(default_factory=dict)
    unsent: int = 0
    arrivals: Collection[Arrivals] = ()
    stored: tuple[DevicePace, ...] = ()
    strategy: str = ""
    order: str = ""
    shared: tuple[Shared, ...] = ()
    footprints: dict[int, Footprint] = field(default_factory=dict)


def merge(old: Pace, new: Pace) -> Pace:
    """The better of two paces in every part; a part never measured gives way."""
    streams = [pace.single_stream for pace in (old, new) if pace.single_stream > 0]
    return Pace(
        prefill=max(old.prefill, new.prefill),
        decode=max(old.decode, new.decode),
        single_stream=min(streams, default=0.0),
        width=max(old.width, new.width),
    )


def merge_all(old: tuple[DevicePace, ...], new: tuple[DevicePace, ...]) -> tuple[DevicePace, ...]:
    """Every device and model of either side once, at its best pace, in order of first mention."""
    best: dict[tuple[str, str, str], Pace] = {}
    for known in old + new:
        key = (known.host, known.device, known.digest)
        best[key] = merge(best.get(key, Pace()), known.pace)
    return tuple(
        DevicePace(host=host, device=device, digest=digest, pace=pace) for (host, device, digest), pace in best.items()
    )

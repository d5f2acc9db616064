"""From the record of a run to its certificate, with the best paces known of the same hardware and model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tokenmill.cluster import EngineFacts
from tokenmill.driver.node_file import nodes_of
from tokenmill.driver.options import Settings
from tokenmill.driver.sharing import address_of
from tokenmill.driver.station import Phase
from tokenmill.driver.verdicts import read_verdicts
from tokenmill.errors import UsageError
from tokenmill.event import Attempt
from tokenmill.pipeline import Recipe
from tokenmill.record.atomic import whole_file
from tokenmill.record.folder import read_manifest
from tokenmill.record.store import Record
from tokenmill.report.certificate import Certificate, judge
from tokenmill.report.data_set import DATA_SET_DEFINITIONS
from tokenmill.report.facts import DevicePace, ManyArrivals, NodeFacts, RunFacts, Session, Shared, Span, merge_all
from tokenmill.report.timeline import Timeline, collect

PACES = "paces.json"


class LoadKnee(Struct, frozen=True, kw_only=True):
    """The load beyond which more costs a node more latency than it brings: what a load sweep found on `date`.

    `requests` at the same time, with `throughput` in tokens/s and the mean `latency` in seconds; `best` is the greatest
    throughput, with `most` requests. `method` says how it was found.
    """

    requests: int
    throughput: float
    latency: float
    most: int
    best: float
    method: str
    date: str


class KeptPace(DevicePace, frozen=True, kw_only=True, omit_defaults=True):
    """A pace as it is kept beside the runs, with the knee of the newest load sweep if there was one."""

    knee: LoadKnee | None = None


class Meaning(Struct, frozen=True):
    """What a run meant, and the attempts that say so."""

    timeline: Timeline
    certificate: Certificate


def certificate_of(record: Record, runs: Path, settings: Settings) -> Certificate:
    """Certifies a run; see `meaning_of`."""
    return meaning_of(record, runs, settings).certificate


def meaning_of(record: Record, runs: Path, settings: Settings) -> Meaning:
    """Judges a run. What it showed of its devices is kept beside the runs, for the bounds of later ones."""
    known = read_paces(runs)
    places = Places(record)
    facts = replace(facts_of(record, places, known, settings), shared=_shared(runs, settings, places))
    timeline = collect(facts, places.attempts(record))
    certificate = _with_data_set(record, judge(timeline))
    with suppress(OSError):  # a full disk must not take the certificate away; later runs measure again
        keep_paces(runs, certificate.paces)
    return Meaning(timeline, certificate)


def _with_data_set(record: Record, certificate: Certificate) -> Certificate:
    """With what a run with a recipe made."""
    given = read_manifest(record.path.parent).options.get("pipeline")
    if not given:
        return certificate
    from tokenmill.driver.counted import data_set_in

    found = data_set_in(record, msgspec.convert(given, Recipe), certificate)
    return replace(certificate, data_set=found, definitions=certificate.definitions | DATA_SET_DEFINITIONS)


def keep_paces(runs: Path, new: tuple[DevicePace, ...], knee: LoadKnee | None = None) -> None:
    """Keeps what is better of these paces than what is kept; `knee` is that of every device among them."""
    known = read_paces(runs)
    knees = {_place(pace): pace.knee for pace in known} | ({_place(pace): knee for pace in new} if knee else {})
    best = tuple(
        KeptPace(host=each.host, device=each.device, digest=each.digest, pace=each.pace, knee=knees.get(_place(each)))
        for each in merge_all(known, new)
    )
    if best != known:
        write_paces(runs, best)


def _place(pace: DevicePace) -> tuple[str, str, str]:
    return pace.host, pace.device, pace.digest


def read_paces(runs: Path) -> tuple[KeptPace, ...]:
    path = runs / PACES
    if not path.exists():
        return ()
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[KeptPace, ...])
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: unreadable ({error}); delete it, paces are measured again") from error


def write_paces(runs: Path, paces: tuple[DevicePace, ...]) -> None:
    with whole_file(runs / PACES) as file:
        file.write(msgspec.json.format(msgspec.json.encode(paces), indent=1) + b"\n")


def facts_of(record: Record, places: Places, stored: tuple[DevicePace, ...], settings: Settings) -> RunFacts:
    """What the report needs to know besides the attempts; strategy `sequential` asks for one at a time."""
    counts = record.counts()
    sessions = tuple(Session(0.0, session.ended or 0.0) for session in record.sessions())
    nodes = _nodes(record, places, is_found=settings.routing == "auto")
    return RunFacts(
        nodes=nodes,
        sessions=sessions,
        width_asked=1 if settings.routing == "sequential" else sum(node.slots for node in nodes),
        rows_total=counts.rows,
        answered=counts.answered,
        failed=counts.failed,
        unsent=record.unsent(),
        arrivals=ManyArrivals(record.births()),
        stored=stored,
        strategy=settings.routing,
        order=settings.order or "",
        footprints=record.footprints(),
    )


def _shared(runs: Path, settings: Settings, places: Places) -> tuple[Shared, ...]:
    """The verdicts that are kept on nodes of this run which may share a device; none if the inventory is gone."""
    if len(places.names) < 2:
        return ()
    try:
        verdicts, names = read_verdicts(runs), {address_of(node): node.name for node in nodes_of(settings)}
    except UsageError:
        return ()
    digests = {facts.digest for facts in places.facts}
    return tuple(
        Shared(
            nodes=tuple(names[address] for address in each.addresses),
            together=each.together,
            alone=each.alone,
            low=each.low,
            high=each.high,
            is_worth_it=len(each.use) > 1,
            date=each.date,
        )
        for each in verdicts
        if each.digest in digests and names.keys() >= set(each.addresses)
    )


class Places:
    """The nodes of all sessions as one list: a node is known by its name, for its number may change from one session to
    the next, and one that was never opened has none.
    """

    def __init__(self, record: Record) -> None:
        self._of_name: dict[str, int] = {}
        self._of_number: dict[tuple[int, int], int] = {}
        self.facts: list[EngineFacts] = []
        for session, number, name, facts in record.nodes():
            place = self._of_name.setdefault(name, len(self._of_name))
            self._of_number[session, number] = place
            self.facts[place : place + 1] = [facts]  # as it was opened last

    @property
    def names(self) -> list[str]:
        return list(self._of_name)

    def find(self, session: int, number: int) -> int | None:
        return self._of_number.get((session, number))

    def attempts(self, record: Record) -> Iterator[Attempt]:
        """All attempts, each with the place of its node."""
        for attempt in record.attempts():
            place = self._of_number[attempt.session, attempt.node]
            yield attempt if place == attempt.node else replace(attempt, node=place)


def _nodes(record: Record, places: Places, *, is_found: bool) -> tuple[NodeFacts, ...]:
    """Every node once, with its intervals of all sessions.

    `is_found`: how many requests a node should have was found out by the run; its slots are the most it ever had.
    """
    spans: dict[tuple[int, str], list[Span]] = {}
    for session, number, kind, start, finish in record.spans():
        place = places.find(session, number)
        if finish is not None and place is not None:
            spans.setdefault((place, kind), []).append(Span(session, start, finish))
    most: dict[int, int] = {}
    for (session, number), running in record.most_in_flight().items() if is_found else ():
        place = places.find(session, number)
        if place is not None:
            most[place] = max(running, most.get(place, 1))
    return tuple(
        NodeFacts(
            name=name,
            model=facts.model,
            digest=facts.digest,
            slots=min(facts.slots, most.get(place, 1 if is_found else facts.slots)),
            host=facts.host,
            device=facts.device,
            loads=tuple(spans.get((place, Phase.OPENING.value), ())),
            up=tuple(spans.get((place, Phase.UP.value), ())),
            cooling=tuple(spans.get((place, "cooling"), ())),
        )
        for place, (name, facts) in enumerate(zip(places.names, places.facts, strict=True))
    )

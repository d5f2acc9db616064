"""From the record of a run to its certificate, with the best paces known of the same hardware and model."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from tokenmill.driver.options import Settings
from tokenmill.driver.station import Phase
from tokenmill.errors import UsageError
from tokenmill.record.atomic import whole_file
from tokenmill.record.store import Record
from tokenmill.report.certificate import Certificate, certify
from tokenmill.report.facts import Arrivals, DevicePace, NodeFacts, RunFacts, Session, Span, merge_all

PACES = "paces.json"


def certificate_of(record: Record, runs: Path, settings: Settings) -> Certificate:
    """Certifies a run. What it showed of its devices is kept beside the runs, for the bounds of later ones."""
    known = read_paces(runs)
    certificate = certify(facts_of(record, known, settings), record.attempts())
    best = merge_all(known, certificate.paces)
    if best != known:
        with suppress(OSError):  # a full disk must not take the certificate away; later runs measure again
            write_paces(runs, best)
    return certificate


def read_paces(runs: Path) -> tuple[DevicePace, ...]:
    path = runs / PACES
    if not path.exists():
        return ()
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[DevicePace, ...])
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: unreadable ({error}); delete it, paces are measured again") from error


def write_paces(runs: Path, paces: tuple[DevicePace, ...]) -> None:
    with whole_file(runs / PACES) as file:
        file.write(msgspec.json.format(msgspec.json.encode(paces), indent=1) + b"\n")


def facts_of(record: Record, stored: tuple[DevicePace, ...], settings: Settings) -> RunFacts:
    """What the report needs to know besides the attempts; strategy `sequential` asks for one at a time."""
    counts = record.counts()
    sessions = tuple(Session(0.0, session.ended or 0.0) for session in record.sessions())
    nodes = _nodes(record, is_found=settings.strategy == "auto")
    return RunFacts(
        nodes=nodes,
        sessions=sessions,
        width_asked=1 if settings.strategy == "sequential" else sum(node.slots for node in nodes),
        rows_total=counts.rows,
        answered=counts.answered,
        failed=counts.failed,
        unsent=record.unsent(),
        arrivals=tuple(Arrivals(session, time, rows) for session, time, rows in record.births()),
        stored=stored,
    )


def _nodes(record: Record, *, is_found: bool) -> tuple[NodeFacts, ...]:
    """Every node once, as it was opened last, with its intervals of all sessions.

    `is_found`: how many requests a node should have was found out by the run; its slots are the most it ever had.
    """
    most = record.most_in_flight() if is_found else {}
    latest = {number: (name, facts) for _, number, name, facts in record.nodes()}
    spans: dict[tuple[int, str], list[Span]] = {}
    for session, node, kind, start, finish in record.spans():
        if finish is not None:
            spans.setdefault((node, kind), []).append(Span(session, start, finish))
    return tuple(
        NodeFacts(
            name=name,
            model=facts.model,
            digest=facts.digest,
            slots=min(facts.slots, max(1, most.get(number, facts.slots))),
            host=facts.host,
            device=facts.device,
            loads=tuple(spans.get((number, Phase.OPENING.value), ())),
            up=tuple(spans.get((number, Phase.UP.value), ())),
            cooling=tuple(spans.get((number, "cooling"), ())),
        )
        for number, (name, facts) in sorted(latest.items())
    )

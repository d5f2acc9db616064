"""From a run folder to everything a report tells of it: the certificate, the charts' numbers, and a few of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import msgspec

from tokenmill.driver.meaning import Places, certificate_of, meaning_of
from tokenmill.driver.prepare import RECORD
from tokenmill.driver.session import settings_of
from tokenmill.errors import UsageError
from tokenmill.record.folder import Manifest, read_manifest
from tokenmill.record.store import Record
from tokenmill.report.certificate import Certificate
from tokenmill.report.dossier import Dossier, Failure, Slow, Work, slowest, tokens
from tokenmill.report.picture import picture
from tokenmill.report.timeline import Timeline


def certificate_in(folder: Path) -> Certificate:
    """The certificate of the run in `folder`. Raises `UsageError` if it never began."""
    with _opened(folder) as (manifest, record):
        return certificate_of(record, folder.parent, settings_of(manifest))


def gather(folder: Path, *, for_comparison: bool = False) -> Dossier:
    """The dossier of the run in `folder`. Raises `UsageError` if it never began."""
    with _opened(folder) as (manifest, record):
        meaning = meaning_of(record, folder.parent, settings_of(manifest))
        return Dossier(
            run=manifest.run_id,
            certificate=meaning.certificate,
            picture=picture(meaning.timeline, meaning.certificate),
            work=_work(manifest),
            about=tuple(_about(manifest, record)),
            failures=tuple(_failures(record)),
            slowest=tuple(_slowest(record, meaning.timeline)),
            tokens=tokens(meaning.timeline) if for_comparison else {},
        )


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[Manifest, Record]]:
    manifest = read_manifest(folder)
    record = Record(folder / RECORD)
    try:
        if not record.sessions():
            raise UsageError(f"run {folder.name} never began; start it with: tokenmill resume {folder.name}")
        yield manifest, record
    finally:
        record.close()


def _work(manifest: Manifest) -> Work:
    """What shapes the answers. The place of an input is not part of it, its bytes are."""
    options: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(manifest.options))
    options.get("workload", {}).pop("source", None)
    return Work(
        input=manifest.input.data.sha256,
        model=manifest.model_digest,
        options=msgspec.json.encode(options, order="sorted").decode(),
        rows=manifest.rows,
    )


def _about(manifest: Manifest, record: Record) -> list[tuple[str, str]]:
    """What a reader needs to do it again; no command line and no folders, which may say what isn't theirs to know."""
    settings = settings_of(manifest)
    sessions = record.sessions()
    source = manifest.input.source
    places = Places(record)
    nodes = (
        f"{name}: {facts.model}, {facts.slots} slots, {facts.device} on {facts.host}"
        for name, facts in zip(places.names, places.facts, strict=True)
    )
    named = {
        "run": manifest.run_id,
        "started": sessions[0].started_at,
        "sessions": ", ".join(f"{each.number + 1}: {each.outcome or 'running'}" for each in sessions),
        "input": f"{PurePath(source.path).name if source else manifest.input.kind}, {manifest.rows:,} rows, sha256 "
        f"{manifest.input.data.sha256[:16]}",
        "model": f"{manifest.model}, digest {manifest.model_digest[:24]}",
        "nodes": "; ".join(nodes),
        "strategy": settings.routing + (f", order {settings.order}" if settings.order else ""),
        "sampling": _sampling(manifest),
        "seed": str(manifest.seed),
        "durability": settings.durability,
        "machine": ", ".join(f"{name} {value}" for name, value in manifest.machine.items()),
        "versions": ", ".join(f"{name} {value}" for name, value in manifest.versions.items()),
    }
    return [(name, value) for name, value in named.items() if value]


def _sampling(manifest: Manifest) -> str:
    chosen = manifest.options.get("workload", {}).get("sampling", {})
    return ", ".join(f"{name} {value}" for name, value in chosen.items() if value not in (None, [], {}))


def _failures(record: Record) -> list[Failure]:
    counted = record.counts().failed
    rows = {kind: record.result_of(row) for kind, row in record.failed_rows().items()}
    return [
        Failure(kind=kind, count=count, custom_id=rows[kind].custom_id, message=rows[kind].message or "")
        for kind, count in sorted(counted.items(), key=lambda pair: -pair[1])
    ]


def _slowest(record: Record, timeline: Timeline) -> list[Slow]:
    found = []
    for index in slowest(timeline):
        result = record.result_of(timeline.row[index])
        found.append(
            Slow(
                custom_id=result.custom_id,
                node=timeline.facts.nodes[timeline.node[index]].name,
                latency=timeline.finished[index] - timeline.dispatched[index],
                output_tokens=timeline.output[index],
                text=result.text or "",
            )
        )
    return found

"""A run of tokenmill as a reading: what its certificate says, and the digest of its answers."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Reading
from tokenmill.driver.api import Answers, run
from tokenmill.driver.data_form import beside
from tokenmill.event import Attempt
from tokenmill.record.store import Record
from tokenmill.report.certificate import Certificate
from tokenmill.report.data_set import DataSet
from tokenmill.report.resources import Resources

#: The folder of runs within that of a sweep.
RUNS = "runs"


def measure_run(cell: Cell, folder: Path, rows: Any, **options: Any) -> Reading:
    """Answers `rows` as `tokenmill.run` does with these options, in a folder that is removed afterwards.

    Raises:
        TokenmillError: bad input or options; nothing was sent.
    """
    runs = folder / RUNS
    shutil.rmtree(runs, ignore_errors=True)
    try:
        return reading_of(cell, run(rows, runs_dir=runs, **options))
    finally:
        shutil.rmtree(runs, ignore_errors=True)


def reading_of(cell: Cell, answers: Answers) -> Reading:
    """What a finished run came to."""
    certificate = answers.certificate
    if certificate is None:
        return Reading(cell=cell.key, repeat=0, fault="no request was sent")
    record = Record(answers.folder / "record.db")
    try:
        attempts = list(record.attempts())
    finally:
        record.close()
    texts = ((result.custom_id, result.text or "") for result in answers)
    reading = reading_from(cell, certificate, attempts, texts)
    if certificate.data_set is None:
        return reading
    if answers.output is None:
        return replace(reading, fault="the run was stopped before its stories ended")
    return with_data_set(reading, answers.output, certificate.data_set)


def with_data_set(reading: Reading, output: Path, found: DataSet) -> Reading:
    """What a recipe came to: rows by how they ended, their rounds, and the digest of everything that was made."""
    made = (
        (path.name, path.read_text(encoding="utf-8"))
        for path in (output, beside(output, "rest"), beside(output, "missed"))
    )
    extra = reading.extra | {"rounds": found.rounds_mean.value or 0.0}
    return replace(reading, digest=digest_of(made), stories=found.outcomes, extra=extra)


def reading_from(
    cell: Cell, certificate: Certificate, attempts: Iterable[Attempt], answers: Iterable[tuple[str, str]]
) -> Reading:
    """A certificate and what it was made from as a reading; `answers` are texts by id."""
    answered = [attempt for attempt in attempts if attempt.outcome == "answered"]
    makespan = certificate.metrics.makespan.value or 0.0
    seconds = certificate.metrics.makespan_without_loading.value or 0.0
    peaks, energy, missing = _resources(certificate.resources)
    ratio = certificate.bound.ratio
    if ratio.value is None:
        missing["bound"] = ratio.reason
    return Reading(
        cell=cell.key,
        repeat=0,
        seconds=seconds,
        loading=makespan - seconds,
        requests=certificate.scope.rows,
        answered=certificate.scope.answered,
        failed=certificate.scope.failed,
        prompt_tokens=certificate.metrics.prompt_tokens,
        output_tokens=certificate.metrics.output_tokens,
        digest=digest_of(answers),
        latencies=_rounded(attempt.finished - attempt.dispatched for attempt in answered),
        ttft=_rounded(_first(attempt) for attempt in answered if attempt.first_token is not None),
        bound=certificate.bound.bound.value if ratio.value is not None else None,
        overlap=certificate.audit.overlap.value,
        width=certificate.audit.width_mean.value,
        audit=certificate.audit.verdict,
        reason=certificate.audit.reason,
        advice=_advice(certificate),
        peak_rss=peaks,
        energy=energy,
        missing=missing,
    )


def digest_of(answers: Iterable[tuple[str, str]]) -> str:
    """A digest of answers by id, whatever their order; equal work has equal digests."""
    whole = hashlib.sha256()
    for custom_id, text in sorted(answers):
        for part in (custom_id, text):
            whole.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    return whole.hexdigest()


def _first(attempt: Attempt) -> float:
    return (attempt.first_token or attempt.finished) - attempt.dispatched


def _rounded(seconds: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(each, 6) for each in seconds)


def _advice(certificate: Certificate) -> tuple[str, ...]:
    return tuple(f"{each.text} ({each.evidence})" for each in certificate.advice)


def _resources(used: Resources | None) -> tuple[dict[str, int], float | None, dict[str, str]]:
    """Peaks of memory by process, joules, and why what is missing is missing."""
    if used is None:
        return {}, None, {"memory": "the run recorded no resources", "energy": "the run recorded no resources"}
    peaks: dict[str, int] = {}
    missing: dict[str, str] = {}
    for session in used.sessions:
        for process in session.processes:
            if process.peak_rss.value is None:
                missing["memory"] = process.peak_rss.reason
            else:
                peaks[process.name] = max(peaks.get(process.name, 0), int(process.peak_rss.value))
    if used.energy.value is None:
        missing["energy"] = used.energy.reason
    return peaks, used.energy.value, missing

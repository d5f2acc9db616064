"""An input that grew: its new rows join a run that began with the old ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

from msgspec.structs import replace

from tokenmill.cluster import EngineFacts
from tokenmill.driver.options import Options, Settings
from tokenmill.driver.prepare import RECORD, check_lengths, check_model, places
from tokenmill.driver.resume import refuse_changes
from tokenmill.driver.source import RowSource
from tokenmill.driver.survey import survey
from tokenmill.engine import Engine
from tokenmill.errors import UsageError
from tokenmill.record.folder import Manifest, read_manifest, write_manifest
from tokenmill.record.lock import RunLock
from tokenmill.record.store import Record
from tokenmill.workload import Input, Reader, check_grown, scan


def extend_run(folder: Path, options: Options, settings: Settings) -> int:
    """Adds the rows past the old end of the input; returns how many. The whole new input is validated first.

    Raises:
        UsageError: options changed, the input isn't a file read in place, or its old part is not the same.
    """
    lock = RunLock(folder)
    try:
        manifest = read_manifest(folder)
        if options.pipeline is not None:
            raise UsageError(f"run {manifest.run_id}: has a recipe, so its input can't grow; start a new run")
        if options.workload.sample is not None:
            raise UsageError(f"run {manifest.run_id}: took a sample, which more rows would change; start a new run")
        refuse_changes(manifest, options)
        engine = survey(options, settings).first
        check_model(manifest, engine[1])
        source = manifest.input.source
        if source is None or manifest.input.source != manifest.input.data:
            raise UsageError(f"run {manifest.run_id}: only a .txt or .jsonl input can grow; start a new run")
        check_grown(source)
        record = Record(folder / RECORD)
        try:
            return _add(folder, manifest, record, options, engine)
        finally:
            record.close()
    finally:
        lock.release()


def _add(folder: Path, manifest: Manifest, record: Record, options: Options, engine: tuple[Engine, EngineFacts]) -> int:
    if next(record.births(), None) is not None:
        raise UsageError(f"run {manifest.run_id}: rows were born during the run, so its input can't grow any more")
    record.drop_rows(manifest.rows)  # left by an extension that was killed before it was whole
    failures: list[tuple[int, str, str]] = []
    with tempfile.TemporaryDirectory(dir=folder) as spool:
        scanned = scan(options.workload, Path(spool))
        added = record.fill(values for values in places(scanned, failures) if int(str(values[0])) >= manifest.rows)
    record.fill_failures(failure for failure in failures if failure[0] >= manifest.rows)
    found = scanned.input
    assert found is not None
    with Reader(options.workload, found) as reader:
        check_lengths(record, RowSource(record, reader, options), engine, options)
    write_manifest(folder, _extended(manifest, found, added))
    return added


def _extended(manifest: Manifest, found: Input, added: int) -> Manifest:
    """The run's hash stays: ids of rows that were answered must not change."""
    return replace(manifest, input=found, rows=manifest.rows + added)

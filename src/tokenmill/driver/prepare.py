"""Before anything is sent: validate the whole input, ask the engines, and leave a complete run folder or none."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from tokenmill.cluster import EngineFacts
from tokenmill.driver.data_form import beside, form_of
from tokenmill.driver.launching import refuse_slower
from tokenmill.driver.options import Options, Settings, as_data, changes
from tokenmill.driver.source import RowSource
from tokenmill.driver.survey import Survey, survey
from tokenmill.engine import Engine
from tokenmill.errors import InputFaults, StorageError, UsageError
from tokenmill.pipeline.recipe import Recipe
from tokenmill.record import folder as folders
from tokenmill.record.atomic import whole_file
from tokenmill.record.export import errors_path, format_of
from tokenmill.record.folder import Manifest
from tokenmill.record.store import Record
from tokenmill.workload import Entry, Input, Reader, Spec, scan
from tokenmill.workload.splits import sources_of

RECORD = "record.db"
#: Faults of token counts that are kept as text; the rest is counted.
KEPT_FAULTS = 100


def check_model(manifest: Manifest, facts: EngineFacts) -> None:
    """Raises `UsageError` if the run began with another model."""
    if facts.digest != manifest.model_digest:
        (differing,) = changes({"model digest": manifest.model_digest}, {"model digest": facts.digest})
        raise UsageError(
            f"run {manifest.run_id}: the model changed ({differing}); put the old one back or start a new run"
        )


def prepare(
    options: Options,
    settings: Settings,
    *,
    runs: Path,
    run_id: str | None = None,
    output: Path | None = None,
    rows: Iterable[object] | None = None,
) -> Path:
    """Makes a run folder that can be started; returns its path. On any fault the folder is gone again."""
    if output is not None:
        check_output(output, options.workload, with_timings=settings.with_timings, recipe=options.pipeline)
    nodes = survey(options, settings)
    refuse_slower(settings, nodes.first[1].digest, runs)
    folders.remove_abandoned(runs)
    prepared = folders.prepare(runs, run_id or folders.new_run_id())
    try:
        name = prepared.name[1:].rsplit(".", 2)[0]
        manifest = _fill(prepared, name, options, settings, nodes, output, rows)
        return folders.publish(prepared, manifest)
    except (OSError, sqlite3.Error, StorageError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{runs}: can't write the run ({reason}); free space or use --runs-dir") from error
    finally:
        if prepared.exists():
            shutil.rmtree(prepared, ignore_errors=True)


def _fill(
    folder: Path,
    run_id: str,
    options: Options,
    settings: Settings,
    nodes: Survey,
    output: Path | None,
    rows: Iterable[object] | None,
) -> Manifest:
    record = Record.create(folder / RECORD)
    try:
        scanned = scan(options.asked, folder, rows=rows)
        failures: list[tuple[int, str, str]] = []
        try:
            total = record.fill(places(scanned, failures))
        except InputFaults:
            if options.pipeline is not None:
                from tokenmill.driver.check_recipe import refuse_unknown

                refuse_unknown(options, folder, rows)
            raise
        record.fill_failures(failures)
        found = scanned.input
        assert found is not None
        with Reader(options.asked, found) as reader:
            if options.pipeline is not None:
                from tokenmill.driver.check_recipe import check_system
                from tokenmill.driver.pipeline import fill_openings

                check_system(options.pipeline, found.endpoint, *nodes.first)
                fill_openings(record, reader, with_endpoint(options, found), found.unit)
            check_lengths(record, RowSource(record, reader, options), nodes.first, options)
        record.settle()
    finally:
        record.close()
    _, facts = nodes.first
    shaping = as_data(options)
    shaping["workload"]["source"] = Path(options.workload.source).name
    if options.pipeline is None:
        shaping.pop("pipeline")
    identity = json.dumps([found.sha256, facts.digest, shaping], sort_keys=True)
    return Manifest(
        run_id=run_id,
        run_hash=hashlib.sha256(identity.encode()).hexdigest()[:32],
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        argv=sys.argv[1:],
        folder=str(Path.cwd()),
        output=str(output.absolute()) if output is not None else None,
        input=relocated(found, folder),
        rows=total,
        model=facts.model,
        model_digest=facts.digest,
        options=as_data(options),
        settings=as_data(settings),
        seed=options.seed,
        machine=folders.machine_facts(),
        versions=folders.versions(),
        embedding_digest=_embedding(options, settings),
    )


def _embedding(options: Options, settings: Settings) -> str:
    """The digest of the model that a recipe's checks ask for vectors."""
    if options.pipeline is None:
        return ""
    from tokenmill.driver.vectors import vectors_of

    vectors = vectors_of(options, settings)
    return "" if vectors is None else vectors.digest()


def with_endpoint(options: Options, found: Input) -> Options:
    """The options of a run, with the endpoint that its rows settled."""
    return replace(options, workload=replace(options.workload, endpoint=found.endpoint))


def relocated(found: Input, folder: Path) -> Input:
    """A spool's path relative to the run folder, which gets another name and may be moved."""
    path = Path(found.data.path)
    if path.is_relative_to(folder.absolute()):
        return replace(found, data=replace(found.data, path=str(path.relative_to(folder.absolute()))))
    return found


def located(found: Input, folder: Path) -> Input:
    """The reverse of `relocated`."""
    path = Path(found.data.path)
    return found if path.is_absolute() else replace(found, data=replace(found.data, path=str(folder / path)))


def places(entries: Iterable[Entry], failures: list[tuple[int, str, str]]) -> Iterator[tuple[object, ...]]:
    """Entries of a scan as rows of the record; those with a fault are noted in `failures`."""
    for entry in entries:
        if entry.fault is not None:
            failures.append((entry.row, "refused", entry.fault))
        yield (
            entry.row,
            entry.custom_id,
            entry.line,
            entry.offset,
            entry.length,
            entry.predicted,
            entry.group,
            None,
            0,
            "",
            None,
        )


def check_lengths(record: Record, source: RowSource, engine: tuple[Engine, EngineFacts], options: Options) -> None:
    """Finds rows that don't fit into the context, where the tokenizer is at hand; they fail alone if asked for."""
    counter, facts = engine
    if facts.context is None or not facts.counts_exactly:
        return
    faults: list[str] = []
    failures: list[tuple[int, str, str]] = []
    for row, _, _ in record.unfinished():
        tokens = counter.count(source.fetch(row))
        if tokens < facts.context:
            continue
        text = f"{tokens} prompt tokens leave no room in the context of {facts.context}; shorten the prompt"
        failures.append((row, "too_long", text))
        if len(faults) < KEPT_FAULTS:
            place = record.place(row)
            faults.append(f"line {place.line} ({place.custom_id!r}): {text}")
    if failures and options.workload.bad_rows == "refuse":
        raise InputFaults(options.workload.source, faults, len(failures) - len(faults))
    record.fill_failures(failures)


def check_output(
    output: Path, spec: Spec, chosen: str | None = None, *, with_timings: bool = False, recipe: Recipe | None = None
) -> None:
    """Refuses an output that can't be written, or that is the input itself, before anything is sent.

    With a recipe the output is a data set.
    """
    if recipe is not None:
        form_of(output, recipe, chosen)
    elif format_of(output, chosen) != "jsonl" and with_timings:
        raise UsageError(f"{output}: timings are for JSONL; end the name in .jsonl or leave --with-timings out")
    probe = output.with_name(f".{output.name}.probe")
    try:
        others = {errors_path(output): "failed requests"}
        if recipe is not None:
            others = {beside(output, "rest"): "the rest", beside(output, "missed"): "missed rows"}
        _check_apart(output, sources_of(spec), others)
        with whole_file(probe) as file:
            file.write(bytes(folders.PROBE_BYTES))
        probe.unlink()
    except OSError as error:
        raise UsageError(f"{output}: can't be written ({error.strerror}); name a file in a writable folder") from error


def _check_apart(output: Path, sources: list[Path], others: Mapping[Path, str]) -> None:
    """Refuses an output if it, or one of the `others` that come beside it, is a file of the input."""
    if output.exists() and not output.is_file():
        raise UsageError(f"{output} is not a regular file; name another file for the answers")
    for path, what in others.items():
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} would hold {what} and is not a regular file; name another output")
    for source in sources:
        if not source.exists():  # a built-in set, or standard input
            continue
        if output.exists() and source.samefile(output):
            raise UsageError(f"{output} is the input; name another file for the answers")
        for path, what in others.items():
            if path.exists() and source.samefile(path):
                raise UsageError(f"{path} is the input and would hold {what}; name another output")

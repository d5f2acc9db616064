"""A run with a recipe: its prompts before the first is sent, and what goes on with its stories while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenmill.clock import Clock
from tokenmill.driver.check_recipe import unknown
from tokenmill.driver.options import Options, Settings
from tokenmill.driver.sequel import Judging
from tokenmill.driver.storyteller import Storyteller
from tokenmill.driver.vectors import vectors_of
from tokenmill.errors import InputFaults
from tokenmill.pipeline.examine import fields_of
from tokenmill.pipeline.judging import Judge
from tokenmill.record.store import Record
from tokenmill.workload import Reader
from tokenmill.workload.faults import RowFault

#: Rows whose prompts are written together.
TOGETHER = 1000
#: Faults that are kept as text; the rest is counted.
KEPT_FAULTS = 100


def judging_of(options: Options, settings: Settings, path: Path, reader: Reader, clock: Clock, session: int) -> Judging:
    """What judges the answers of a run with a recipe and goes on with its stories."""
    recipe = options.pipeline
    assert recipe is not None
    vectors = vectors_of(options, settings)
    judge = Judge(recipe, vectors.embed if vectors is not None else None)

    def make() -> Storyteller:
        return Storyteller(path, reader, recipe, options.workload, reader.kind, judge)

    return Judging(make, clock, session, vectors)


def fill_openings(record: Record, reader: Reader, options: Options, unit: str) -> None:
    """Puts into the record what is asked at once of each row, besides the row's own prompt.

    Raises `InputFaults` for templates that don't go with rows, and for variables that no row has.
    """
    recipe = options.pipeline
    assert recipe is not None
    teller = Storyteller(record.path, reader, recipe, options.workload, reader.kind, None)
    wanted, seen = fields_of(recipe), set[str]()
    faults: list[str] = []
    failures: list[tuple[int, str, str]] = []
    try:
        for rows in _groups(record):
            entries: list[tuple[object, ...]] = []
            for row in rows:
                place = record.place(row)
                fields = reader.fields(place.offset, place.length, place.line)
                seen |= fields.keys()
                for name in wanted.keys() & fields.keys():
                    del wanted[name]
                try:
                    entries += teller.openings(row, place.custom_id, fields)
                except RowFault as fault:
                    failures.append((row, "refused", str(fault)))
                    faults.append(f"{unit} {place.line}: {fault}")
            if entries:
                record.fill(iter(entries))
    finally:
        teller.close()
    if wanted and seen:
        raise unknown(recipe, wanted, seen)
    if faults and options.workload.bad_rows == "refuse":
        raise InputFaults(options.workload.source, faults[:KEPT_FAULTS], max(0, len(faults) - KEPT_FAULTS))
    record.fill_failures(failures)


def _groups(record: Record) -> Iterator[list[int]]:
    rows = [row for row, _, _ in record.unfinished()]
    for start in range(0, len(rows), TOGETHER):
        yield rows[start : start + TOGETHER]

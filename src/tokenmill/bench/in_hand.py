"""A recipe as scripts go about it: a group of rows is answered, validated and refined to its end, then the next.

Prompts, validators, rounds and what is kept are those of a run, from the same record, so that equal answers make equal
data sets. What differs is who is asked when: here nobody is asked while something is validated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tokenmill.bench.pipelines import Ledger
from tokenmill.clock import Clock
from tokenmill.driver.api import chosen_options
from tokenmill.driver.counted import data_set_in
from tokenmill.driver.data_set import write_data_set
from tokenmill.driver.prepare import RECORD, located, prepare
from tokenmill.driver.source import RowSource
from tokenmill.driver.storyteller import Storyteller
from tokenmill.driver.vectors import vectors_of
from tokenmill.errors import EngineError, StorageError
from tokenmill.pipeline import Recipe
from tokenmill.pipeline.judging import Judge
from tokenmill.record.folder import read_manifest
from tokenmill.record.store import Record
from tokenmill.record.stories import Stories
from tokenmill.record.writer import Writer
from tokenmill.report.certificate import Certificate
from tokenmill.report.data_set import DataSet
from tokenmill.request import Request
from tokenmill.workload import Reader

#: Answers requests, as far as the ledger is concerned.
Generate = Callable[[Sequence[Request]], object]


class InHand:
    """A prepared run whose stories are told without a driver; threads may tell different ones."""

    def __init__(self, runs: Path, rows: list[dict[str, Any]], recipe: Recipe, model: str, **given: Any) -> None:
        options, settings = chosen_options(rows, model, (), {}, {"durability": "process", **given})
        self._options, self._recipe = replace(options, pipeline=recipe), recipe
        self._folder = prepare(self._options, settings, runs=runs, rows=rows)
        self._found = located(read_manifest(self._folder).input, self._folder)
        self._record = Record(self._folder / RECORD)
        self._reader = Reader(self._options.asked, self._found)
        self._source = RowSource(self._record, self._reader, self._options)
        vectors = vectors_of(self._options, settings)
        judge = Judge(recipe, vectors.embed if vectors is not None else None)
        spec, kind = self._options.workload, self._reader.kind
        self._teller = Storyteller(self._record.path, self._reader, recipe, spec, kind, judge)
        self._lock = threading.Lock()
        self._opening = _openings(self._record.path)
        self._log = _Log(self._record.path)

    def tell_in_groups(self, width: int, ledger: Ledger, clock: Clock, generate: Generate) -> None:
        """As many stories at a time as `width`, round by round; a group begins when the one before it has ended."""
        roots = list(self._opening)
        for first in range(0, len(roots), width):
            self.tell(roots[first : first + width], ledger, clock, generate)

    def tell(self, roots: Sequence[int], ledger: Ledger, clock: Clock, generate: Generate) -> None:
        """The stories of these input rows to their ends: all that they ask is answered, then judged, then refined."""
        rows = [row for root in roots for row in self._opening[root]]
        while rows:
            with self._lock:
                requests = [self._source.fetch(row) for row in rows]
            generate(requests)
            with self._lock:
                rows = self._judged(rows, ledger, clock.now())

    def tell_at_once(self, threads: int, ledger: Ledger, clock: Clock, generate: Callable[[Request], object]) -> None:
        """As many stories at once as there are threads, each told by itself."""

        def each(root: int) -> None:
            self.tell([root], ledger, clock, lambda requests: [generate(request) for request in requests])

        with ThreadPoolExecutor(threads, "pipeline") as pool:
            list(pool.map(each, list(self._opening)))

    def data_set(self, certificate: Certificate) -> tuple[Path, DataSet]:
        """The data set, as a run writes it, and its figures."""
        self._log.close()
        output = self._folder / "data.jsonl"
        manifest = read_manifest(self._folder)
        write_data_set(self._record, manifest, self._options, self._found, output, certificate)
        found = data_set_in(self._record, self._recipe, certificate)
        self._teller.close()
        self._reader.close()
        self._record.close()
        return output, found

    def _judged(self, rows: Sequence[int], ledger: Ledger, now: float) -> list[int]:
        """Keeps the answers and judges them; the rows born of that."""
        for row in rows:
            word = ledger.words.pop(row)
            if isinstance(word, EngineError):
                self._log.writer.set_aside(row, row, word.kind, word.message)
            else:
                self._log.writer.finished(row, row, now, word)
        self._log.settle()
        batch = self._teller.go_on(rows, now)
        self._log.writer.put(*batch.entries)
        self._log.settle()
        return [arrived.row for arrived in batch.arrived]


def _openings(path: Path) -> dict[int, list[int]]:
    """What is asked at once about each input row, itself among it."""
    stories = Stories(path)
    try:
        return {root: [prompt.row for prompt in stories.prompts(root)] for root in stories.roots()}
    finally:
        stories.close()


class _Log:
    """A writer that can be waited for."""

    def __init__(self, path: Path) -> None:
        self._changed = threading.Condition()
        self._written = 0
        self._error: StorageError | None = None
        self.writer = Writer(
            path, durability="process", on_written=self._on_written, on_committed=lambda _: None, on_error=self._fail
        )

    def settle(self) -> None:
        """Returns when all is written that was put so far; raises `StorageError` if that can't be."""
        number = self.writer.put()
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self._written >= number)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.writer.close()

    def _on_written(self, number: int) -> None:
        with self._changed:
            self._written = number
            self._changed.notify_all()

    def _fail(self, error: StorageError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

"""What a suite is: the ways to do the work, and one of them done once."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.table import Row
from tokenmill.errors import UsageError
from tokenmill.report.plots import Chart

#: Suites by name: module, and the line that `--help` shows without importing it.
SUITES = {
    "batching": ("tokenmill.bench.batching", "Which pipeline: loops and threads called batch, padded, continuous."),
    "strategies": ("tokenmill.bench.strategies", "Which strategy, with how many requests in flight."),
    "colocation": ("tokenmill.bench.colocation", "Nodes alone and together: whether a second one is worth using."),
    "knee": ("tokenmill.bench.knee", "How much load one node takes, by requests in flight and by rate of arrivals."),
    "parallel": ("tokenmill.bench.parallel", "Workers and ranks against one process: data and tensor parallel."),
    "quantize": ("tokenmill.bench.quantize", "Quantization: threads, streaming, memory and error, beside its limits."),
}


class Suite(Protocol):
    """A set of cells and how one is measured. The module of a suite has one under the name `SUITE`.

    `options`: a struct whose fields are the suite's command-line options; their `Meta` descriptions are the help.
    `unit`: what a cell's `workers` are. `varied`: the factor that counts them, empty if none does. `example`: options
    for the help.
    """

    name: str
    unit: str
    varied: str
    example: str
    options: type[Struct]

    def prepare(self, options: Any, folder: Path) -> None:
        """Writes what all cells need (scripts, models); raises `UsageError` for options that don't go together."""
        ...

    def cells(self, options: Any) -> list[Cell]: ...

    def measure(self, options: Any, cell: Cell, folder: Path) -> Reading:
        """Does the cell's work once, in a fresh process; its `repeat` and the process's figures are filled in."""
        ...

    def findings(self, options: Any, rows: Sequence[Row]) -> list[str]:
        """What the table shows, in sentences, each with its evidence."""
        ...


@runtime_checkable
class Settles(Protocol):
    """A suite whose cells or findings depend on what is there, such as which nodes are on one host."""

    def settled(self, options: Any, where: Path) -> Any:
        """The options with what was found, before the sweep has a folder in `where`; they are kept with it.

        So a sweep that goes on, or is shown, is the one that was begun. Fields for what is found have `FOUND` in their
        `Meta`, and are no command-line options. Raises `UsageError` if the sweep can't be done.
        """
        ...


@runtime_checkable
class NamesColumns(Protocol):
    """A suite whose table has its own headings instead of the usual: pairs of heading and figure (see `columns`)."""

    columns: tuple[tuple[str, str], ...]


@runtime_checkable
class Concludes(Protocol):
    """A suite whose findings are of use to runs."""

    def conclude(self, options: Any, rows: Sequence[Row]) -> list[str]:
        """Keeps them where runs look, once, when the sweep is whole; says in sentences what was kept and where."""
        ...


@runtime_checkable
class Draws(Protocol):
    """A suite with charts of its own, beside those that every sweep has."""

    def charts(self, options: Any, rows: Sequence[Row]) -> list[Chart]: ...


@runtime_checkable
class Judges(Protocol):
    """A suite where only the readings show which cell others are held against, and which readings are worth nothing."""

    def judged(
        self, options: Any, cells: Sequence[Cell], readings: Sequence[Reading]
    ) -> tuple[list[Cell], list[Reading]]:
        """All of both: cells with other baselines, and void readings with a fault that says why."""
        ...


#: `extra` of a field that `settled` fills in.
FOUND = {"is_found": True}


def suite_of(name: str) -> Suite:
    if name not in SUITES:
        near = get_close_matches(name, SUITES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"no suite {name!r}; {hint}known: {', '.join(SUITES)}")
    found: Suite = importlib.import_module(SUITES[name][0]).SUITE
    return found

"""A sweep on a terminal: a table for each group, what it shows in sentences, and what the columns mean."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence

from tokenmill.bench.columns import DEFINITIONS, columns_of, figures_of
from tokenmill.bench.compare import Changes
from tokenmill.bench.sentences import ends_of, of_cell, of_law, of_target, reasons_of, value_of
from tokenmill.bench.sweep import Results
from tokenmill.bench.table import Row
from tokenmill.cli.screen import is_plain, printable
from tokenmill.stats.interval import Interval
from tokenmill.stats.measure import Measure
from tokenmill.stats.target import Judged

#: Columns whose interval is shown; where there is little room, the first goes without it first.
WITH_INTERVAL = ("seconds", "speedup")


def show(results: Results, judged: Sequence[Judged]) -> Iterator[str]:
    """Lines as wide as the terminal."""
    width = shutil.get_terminal_size((100, 24)).columns
    plan = results.plan
    yield f"{plan.suite} {plan.sweep}: {plan.repeats} repeats in turns, seed {plan.seed}; {plan.created[:10]}"
    versions = ", ".join(f"{name} {number}" for name, number in plan.versions.items())
    yield printable(f"{plan.machine.get('processor')}, {plan.machine.get('cores')} cores; {versions}")
    if not results.complete:
        yield f"not complete: go on with tokenmill bench resume {plan.sweep}"
    for group in dict.fromkeys(row.cell.group for row in results.rows):
        yield ""
        if group:
            yield printable(group)
        yield from _table([row for row in results.rows if row.cell.group == group], columns_of(plan.suite), width)
    yield from _remarks(results)
    yield from _judged(judged)
    yield ""
    yield from _definitions(results)


def _remarks(results: Results) -> Iterator[str]:
    yield ""
    yield from (printable(of_law(law)) for law in results.laws)
    yield from map(printable, results.findings)
    for row in results.rows:
        for said in of_cell(row):
            yield printable(f"{row.cell.group} {row.cell.title}: {said}".strip())


def _judged(judged: Sequence[Judged]) -> Iterator[str]:
    yield from (printable(f"{each.outcome:4}  {each.target}: {of_target(each)}") for each in judged)


def _table(rows: Sequence[Row], columns: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    figures = [figures_of(row) for row in rows]
    shown = [(title, name) for title, name in columns if any(each[name].value is not None for each in figures)]
    extras = dict.fromkeys(name for row in rows for name in row.extra)
    shown += [(name, name) for name in extras if name not in {of for _, of in columns}]
    factors = list(dict.fromkeys(name for row in rows for name, _ in row.cell.named))
    head = [[str(dict(row.cell.named).get(name, "")) for name in factors] for row in rows]
    titles = [*factors, *(title for title, _ in shown)]
    for narrower in range(
        len(WITH_INTERVAL) + 1
    ):  # room is made by leaving out intervals, then by breaking names, then columns
        spread = WITH_INTERVAL[narrower:]
        body = [[_cell(name, each[name], spread) if name in each else "" for _, name in shown] for each in figures]
        if _width(titles, head, body) <= width:
            break
    broken = [[max(cell.split() or [""], key=len) for cell in line] for line in head]  # names may take several lines
    while len(shown) > 2 and _width(titles, broken, body) > width:
        shown.pop()
        titles.pop()
        for line in body:
            line.pop()
    is_tight = (
        sum(max(map(len, column)) + 3 for column in zip(titles, *map(list.__add__, head, body), strict=True)) > width
    )
    table = Table(box=box.ASCII2 if is_plain() else box.SIMPLE, padding=(0, 1), pad_edge=False)
    for number, title in enumerate(titles):
        is_name = number < len(factors)
        cells = [line[number] for line in broken] if is_name else [line[number - len(factors)] for line in body]
        least = max(map(len, [*cells, *title.split()]))
        table.add_column(
            title,
            justify="left" if is_name else "right",
            overflow="fold",
            min_width=least,
            width=least if is_tight and not is_name else None,
        )
    for left, right in zip(head, body, strict=True):
        table.add_row(*(Text(printable(cell)) for cell in left + right))
    screen = io.StringIO()
    Console(file=screen, width=width, color_system=None, legacy_windows=False).print(table)
    yield from (line.rstrip() for line in screen.getvalue().splitlines() if line.strip())


def _width(titles: Sequence[str], head: Sequence[Sequence[str]], body: Sequence[Sequence[str]]) -> int:
    """Characters that the table takes with every cell on one line, and headings broken between words."""
    lines = [
        [max(title.split(), key=len) for title in titles],
        *([*left, *right] for left, right in zip(head, body, strict=True)),
    ]
    return sum(max(len(line[number]) for line in lines) + 3 for number in range(len(titles)))


def _cell(name: str, value: Measure | Interval, spread: Sequence[str] = WITH_INTERVAL) -> str:
    if name == "speedup" and value.value is None:
        return ""
    ends = ends_of(value) if name in spread else ""
    return f"{value_of(name, value)} ({ends})" if ends else value_of(name, value)


def _definitions(results: Results) -> Iterator[str]:
    columns = columns_of(results.plan.suite)
    there = {name for row in results.rows for name, value in figures_of(row).items() if value.value is not None}
    for title, name in columns:
        if name in there:
            yield f"{title}: {DEFINITIONS[name]}"
    if any(name == "efficiency" for _, name in columns):
        yield f"efficiency counts workers as: {results.unit}"
    yield from map(printable, reasons_of(results))


def show_changes(changes: Changes) -> Iterator[str]:
    """Old against new, cell by cell, and what makes them less comparable."""
    yield f"{changes.old} (old) against {changes.new} (new), seconds"
    for each in changes.changes:
        note = "; answers differ" if each.unequal else ""
        yield printable(f"  {each.comparison.judgement:11} {each.cell}: {each.comparison.claim}{note}")
    for name, cells in (("only in the old one", changes.only_old), ("only in the new one", changes.only_new)):
        if cells:
            yield printable(f"{name}: {', '.join(cells)}")
    for said in changes.differ:
        yield printable(f"note: {said}")

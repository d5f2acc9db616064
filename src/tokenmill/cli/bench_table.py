"""A sweep on a terminal: a table for each group, what it shows in sentences, and what the columns mean."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence

from tokenmill.bench.columns import DEFINITIONS, columns_of, figures_of
from tokenmill.bench.compare import Changes
from tokenmill.bench.sweep import Results
from tokenmill.bench.table import Row
from tokenmill.cli.screen import is_plain, printable
from tokenmill.report.numbers import NONE, figure, seconds
from tokenmill.stats.interval import Interval
from tokenmill.stats.measure import Measure
from tokenmill.stats.target import Judged

#: Columns whose interval is shown; where there is little room, the first goes without it first.
WITH_INTERVAL = ("seconds", "speedup")
PERCENT = ("efficiency", "success", "bound_ratio")


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
    for law in results.laws:
        where = " ".join(filter(None, (law.group, law.of)))
        best = figure(law.best.value) if law.best.value is not None else f"{NONE} ({law.best.reason})"
        if law.law is None:
            yield printable(f"{where}: scaling law {NONE} ({law.reason})")
            continue
        more = f"{100 * (law.one_more.value or 0):+.1f} %"
        yield printable(
            f"{where}: serial {law.law.serial:.3f}, coherence {law.law.coherence:.4f}, best N {best}, one more than "
            f"{law.widest:g}: {more}"
        )
    for finding in results.findings:
        yield printable(finding)
    for row in results.rows:
        for said in (*row.faults, *([row.equal] if row.equal else []), *_disguised(row)):
            yield printable(f"{row.cell.group} {row.cell.title}: {said}".strip())


def _disguised(row: Row) -> list[str]:
    return [f"{row.audit}: {row.reason}"] if row.reason and row.audit.startswith("sequential in") else []


def _judged(judged: Sequence[Judged]) -> Iterator[str]:
    for each in judged:
        value = (
            ""
            if each.value is None
            else f" ({figure(each.value)}{'' if each.is_clear in (True, None) else ', not clear'})"
        )
        reason = f": {each.reason}" if each.reason else ""
        yield printable(f"{each.outcome:4}  {each.target}{value}{reason}")


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
    table = Table(box=box.ASCII2 if is_plain() else box.SIMPLE, padding=(0, 1), pad_edge=False)
    for number, title in enumerate(titles):
        is_name = number < len(factors)
        least = None if is_name else max(len(line[number - len(factors)]) for line in body)
        table.add_column(title, justify="left" if is_name else "right", overflow="fold", min_width=least)
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
    if value.value is None:
        return NONE if name != "speedup" else ""
    if name in PERCENT:
        return f"{100 * value.value:.0f} %"
    if name in ("memory", "more_memory"):
        return f"{value.value / 2**20:.0f} MiB"
    if name == "serial_fraction":
        return f"{value.value:.3f}"
    plain = seconds(value.value) if value.unit == "s" else figure(value.value)
    if name in spread and isinstance(value, Interval) and value.low is not None and value.high is not None:
        return f"{plain} ({figure(value.low)}-{figure(value.high)})"
    return plain


def _definitions(results: Results) -> Iterator[str]:
    columns = columns_of(results.plan.suite)
    there = {name for row in results.rows for name, value in figures_of(row).items() if value.value is not None}
    for title, name in columns:
        if name in there:
            yield f"{title}: {DEFINITIONS[name]}"
    if any(name == "efficiency" for _, name in columns):
        yield f"efficiency counts workers as: {results.unit}"
    reasons = {
        f"{title} {NONE}: {value.reason}"
        for title, name in columns
        if name not in there
        for row in results.rows
        if isinstance(value := figures_of(row)[name], Measure) and value.reason
    }
    yield from sorted(reasons)


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

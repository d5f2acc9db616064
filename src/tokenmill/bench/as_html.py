"""A sweep as one HTML file: what it shows in sentences, the table, the charts; then evidence, machine, readings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from tokenmill.bench.as_json import Report
from tokenmill.bench.charts import charts
from tokenmill.bench.columns import columns_of, figures_of, meaning_of
from tokenmill.bench.sentences import ends_of, of_cell, of_law, of_target, reasons_of, value_of
from tokenmill.bench.sweep import Results
from tokenmill.bench.table import Row
from tokenmill.report import page
from tokenmill.report.as_html import Drawn, Tile, draw
from tokenmill.report.numbers import NONE, figure, seconds
from tokenmill.report.svg import Sheet
from tokenmill.report.visible import shortened
from tokenmill.stats.interval import Interval
from tokenmill.stats.measure import Measure

#: Letters of a fault or an error message that the page shows.
MOST = 600
#: Tiles of the first screen; more groups than these are told in sentences alone.
TILES = 4


class Cell(Struct, frozen=True, kw_only=True):
    """A cell of a table: a figure, and its interval below it."""

    text: str
    ends: str = ""


class Table(Struct, frozen=True, kw_only=True):
    """A group of cells: names of factors, (heading, name of the figure), and for each cell its names and figures."""

    title: str
    factors: list[str]
    columns: list[tuple[str, str]]
    rows: list[tuple[list[str], list[Cell]]]


def html(report: Report) -> str:
    """The whole page. Draws with matplotlib."""
    sheet = Sheet()
    return fill(report, [draw(chart, sheet) for chart in charts(report.results)], sheet.css)


def fill(report: Report, drawn: Sequence[Drawn], css: str) -> str:
    """The page with these charts, whose styles are `css`."""
    results = report.results
    plan = results.plan
    return page.render(
        "sweep.html",
        css,
        title=f"{plan.suite.capitalize()}: {plan.sweep}",
        results=results,
        taken=len(results.readings),
        tiles=tiles(results),
        sentences=results.findings,
        laws=[of_law(law) for law in results.laws],
        targets=[(each.outcome, str(each.target), of_target(each)) for each in report.targets],
        tables=tables(results),
        reasons=reasons_of(results),
        charts=drawn,
        claims=[(_place(row), str(row.claim)) for row in results.rows if row.claim is not None],
        remarks=[(_place(row), shortened(said, MOST)) for row in results.rows for said in of_cell(row)],
        about=about(results),
        readings=[_reading(number, results) for number in range(len(results.readings))],
        definitions=shown_definitions(results),
    )


def tiles(results: Results) -> list[Tile]:
    """The quickest way of each group that has a baseline, and what it is worth; groups of one way come last."""
    bases = dict.fromkeys(row.cell.group for row in results.rows if row.cell.is_baseline)
    groups = {group: [row for row in results.rows if row.cell.group == group] for group in bases}
    return [_tile(*each) for each in sorted(groups.items(), key=lambda each: len(each[1]) == 1)][:TILES]


def _tile(group: str, rows: Sequence[Row]) -> Tile:
    start = f"{group}: " if group else ""
    base = next(row for row in rows if row.cell.is_baseline)
    others = [row for row in rows if row.speedup is not None and row.speedup.value is not None]
    question = f"{start}fastest?"
    if not others:
        nothing = "no cell was answered whole" if base.seconds.value is None else "there is nothing to compare with"
        return Tile(question=question, answer=NONE, detail=nothing, definition="speedup")
    best = max(others, key=lambda row: row.speedup.value if row.speedup and row.speedup.value else 0.0)
    if best.claim is not None and best.claim.finding == "better":
        return Tile(question=question, answer=best.cell.title, detail=f"{best.claim}", definition="speedup")
    if best.claim is not None and best.claim.finding == "n/a":
        detail = f"{_factor(best)}; {best.claim.reason}"
        return Tile(question=question, answer=f"{best.cell.title}?", detail=detail, definition="speedup")
    detail = f"no way was shown to be faster than {base.cell.title}; the best has {_factor(best)}"
    return Tile(question=question, answer=base.cell.title, detail=detail, definition="speedup")


def _factor(row: Row) -> str:
    ratio = row.speedup
    assert ratio is not None
    ends = ends_of(ratio)
    return f"{value_of('speedup', ratio)} times its speed{f' ({ends})' if ends else ''}"


def tables(results: Results) -> list[Table]:
    """One for each group, without figures that no cell of the sweep has."""
    groups = dict.fromkeys(row.cell.group for row in results.rows)
    return [_table(results, group, [row for row in results.rows if row.cell.group == group]) for group in groups]


def _table(results: Results, group: str, rows: Sequence[Row]) -> Table:
    figures = [figures_of(row) for row in rows]
    columns = list(columns_of(results.plan.suite))
    named = {name for _, name in columns}
    columns += [(name, name) for name in dict.fromkeys(name for row in rows for name in row.extra) if name not in named]
    columns = [
        (title, name) for title, name in columns if any(each.get(name, _NONE).value is not None for each in figures)
    ]
    factors = list(dict.fromkeys(name for row in rows for name, _ in row.cell.named))
    body = []
    for row, each in zip(rows, figures, strict=True):
        names = [str(dict(row.cell.named).get(name, "")) for name in factors]
        body.append((names, [_cell(row, name, each.get(name, _NONE)) for _, name in columns]))
    return Table(title=group, factors=factors, columns=columns, rows=body)


_NONE = Measure(None, "")


def _cell(row: Row, name: str, value: Measure | Interval) -> Cell:
    if name == "speedup" and row.cell.is_baseline:
        return Cell(text="baseline")
    return Cell(text=value_of(name, value), ends=ends_of(value))


def shown_definitions(results: Results) -> dict[str, str]:
    """Those of the figures that a table or a chart shows."""
    names = [name for _, name in columns_of(results.plan.suite)]
    names += [name for row in results.rows for name in row.extra]
    return {name: meaning_of(name) for name in dict.fromkeys([*names, "speedup"])}


def about(results: Results) -> list[tuple[str, str]]:
    """What was measured, on what, in which order, and how busy the machine was."""
    plan = results.plan
    machine = plan.machine
    loads = [each.load for each in results.readings if each.load is not None]
    spent = sum(each.wall for each in results.readings)
    facts = [
        ("date", plan.created),
        ("repeats", f"{plan.repeats}, in turns: every cell once in each, in an order drawn from seed {plan.seed}"),
        ("readings", f"{len(results.readings)}, each in a fresh process; {seconds(spent)} in all"),
        ("processor", machine.get("processor", "unknown")),
        ("cores", machine.get("cores", "unknown")),
        *((name, value) for name, value in machine.items() if name not in ("processor", "cores")),
        ("threads", plan.threads or "as the engine chooses: all cores"),
        ("versions", ", ".join(f"{name} {number}" for name, number in plan.versions.items())),
        ("efficiency per", results.unit),
    ]
    if loads:
        facts.append(("load average", f"{figure(min(loads))} to {figure(max(loads))} before readings"))
    options = [
        f"{name} {_without_folder(value)}"
        for name, value in plan.options.items()
        if isinstance(value, str | int | float) and value
    ]
    return [*facts, ("options", "; ".join(options))]


def _without_folder(value: str | float) -> str:
    """Where files are on the machine is nobody's business."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else str(value)


def _reading(number: int, results: Results) -> tuple[str, ...]:
    """A line of the table of readings."""
    each = results.readings[number]
    began = each.began
    if began:
        began = datetime.fromisoformat(began).strftime("%H:%M:%S")
    return (
        str(number + 1),
        began,
        each.cell,
        str(each.repeat + 1),
        NONE if each.fault else seconds(each.seconds),
        f"{each.answered}/{each.requests}",
        NONE if each.load is None else figure(each.load),
        shortened(each.fault, MOST),
    )


def _place(row: Row) -> str:
    return ", ".join(filter(None, (row.cell.group, row.cell.title)))

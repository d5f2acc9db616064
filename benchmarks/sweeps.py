"""`make bench`: a small version of every suite, kept in docs/results, and the figure and table of the README.

It takes some minutes on two cores and needs neither a network nor a model. The sweeps themselves stay in build/bench,
where `tokenmill bench show` and `compare` find them with `--bench-dir build/bench`; what they came to is written to
docs/results/sweeps.md with the machine they ran on, and as pages and tables to docs/results/sweeps.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tokenmill.bench import as_csv, as_html
from tokenmill.bench.as_json import report_of
from tokenmill.bench.charts import charts
from tokenmill.bench.columns import columns_of, figures_of
from tokenmill.bench.folder import find_sweep
from tokenmill.bench.sentences import ends_of, of_law, reasons_of, value_of
from tokenmill.bench.sweep import Results, results_of
from tokenmill.bench.table import Row
from tokenmill.record.atomic import whole_file
from tokenmill.report.ink import variables
from tokenmill.report.numbers import seconds
from tokenmill.report.svg import Sheet, inline

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "bench"
WRITTEN = ROOT / "docs" / "results"
FIGURE = "speedup.svg"
BEGIN, END = "<!-- sweeps: written by make bench -->", "<!-- end of sweeps -->"

#: Each sweep: its name, what it is, and the command.
SWEEPS = {
    "strategies": (
        "30 requests of 1 to 30 sentences, a server that is a script and takes all that is in flight",
        "strategies --engine scripted --slots inf --strategies sequential,static,pull --widths 1,2,4,6,8,12 "
        "--sentence 0.005",
    ),
    "one-slot": (
        "15 such requests, a server with one slot",
        "strategies --engine scripted --slots 1 --strategies sequential,pull --widths 1,8 "
        "--source sentences-15 --sentence 0.005",
    ),
    "batching": (
        "16 requests, a small model (6 layers of 512) with random weights, on this processor",
        "batching --shape small --prompts 16",
    ),
    "colocation": (
        "two local nodes on one machine, random weights, 8 requests in flight on each",
        f"colocation --batch 8 --limit 16 --max-tokens 16 --no-store --runs-dir {KEPT / 'runs'}",
    ),
    "knee": (
        "load on one node with 4 slots that is a script",
        "knee --widths 1,2,4,8 --rates 60%,120% --seconds 0.8 --warm-up 0.2 --no-store",
    ),
    "parallel": (
        "16 texts, a small model with random weights: workers, ranks and one process, on the same cores",
        "parallel --shape small --modes baseline,dp,tp --workers 2 --limit 16 --max-tokens 16",
    ),
    "quantize": (
        "random weights in 20 tensors of 512 x 4096, to Q4_0",
        "quantize --sizes 20x512x4096 --threads 1,2 --to q4_0 --streaming",
    ),
}
#: The cells of the README's table, in flight.
SHOWN = (1, 4, 8, 12)


def main() -> None:
    """Measures everything, then writes; an interrupted one leaves the old results as they are."""
    began = time.monotonic()
    found: dict[str, Results] = {}
    for number, (name, (what, command)) in enumerate(SWEEPS.items(), start=1):
        print(f"{number}/{len(SWEEPS)} {name}: {what}", flush=True)
        done = subprocess.run([sys.executable, "-m", "tokenmill", "bench", *_words(command)], cwd=ROOT)
        if done.returncode:
            sys.exit(done.returncode)
        found[name] = results_of(find_sweep(KEPT, "last"))
    took = time.monotonic() - began
    _write_sweeps(found, took)
    _write_readme(found)
    print(f"took {seconds(took)}; written: docs/results/sweeps.md, docs/results/sweeps/, README.md")


def _words(command: str) -> list[str]:
    suite, *options = command.split()
    return [suite, *options, "--bench-dir", str(KEPT)]


def _write_sweeps(found: dict[str, Results], took: float) -> None:
    folder = WRITTEN / "sweeps"
    folder.mkdir(parents=True, exist_ok=True)
    for name, results in found.items():
        _put(folder / f"{name}.html", as_html.html(report_of(results)).encode())
        _put(folder / f"{name}.csv", as_csv.cells(results))
    _put(folder / FIGURE, _figure(found["strategies"]).encode())
    _put(WRITTEN / "sweeps.md", "\n".join(_page(found, took)).encode() + b"\n")


def _page(found: dict[str, Results], took: float) -> Iterator[str]:
    first = next(iter(found.values())).plan
    machine = ", ".join(f"{name} {value}" for name, value in first.machine.items())
    loads = [each.load for results in found.values() for each in results.readings if each.load is not None]
    yield from ("# Small sweeps of every suite", "")
    yield f"Written by `make bench` ({first.created[:10]}, {seconds(took)} in all): don't edit."
    yield f"Machine: {machine}. Versions: {', '.join(f'{name} {value}' for name, value in first.versions.items())}. "
    if loads:
        yield f"Load average before readings: {min(loads):.2f} to {max(loads):.2f}."
    yield f"{first.repeats} repeats of each cell, in turns, each in a fresh process; in brackets 95 % intervals."
    yield "Definitions stand on the pages."
    for name, results in found.items():
        what, command = SWEEPS[name]
        shown = command.replace(f" --runs-dir {KEPT / 'runs'}", "")
        yield from ("", f"## {name}: {what}", "", f"`tokenmill bench {shown}`; [page](sweeps/{name}.html),")
        yield f"[table](sweeps/{name}.csv)"
        for group in dict.fromkeys(row.cell.group for row in results.rows):
            yield from ("", *_table([row for row in results.rows if row.cell.group == group], results.plan.suite))
        yield ""
        yield from (f"- {said}" for said in (*results.findings, *map(of_law, results.laws), *reasons_of(results)))


def _table(rows: list[Row], suite: str) -> Iterator[str]:
    figures = [figures_of(row) for row in rows]
    columns = [
        (title, name) for title, name in columns_of(suite) if any(each[name].value is not None for each in figures)
    ]
    yield f"| {rows[0].cell.group or 'all'} | {' | '.join(title for title, _ in columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    for row, each in zip(rows, figures, strict=True):
        cells = [
            "baseline" if name == "speedup" and row.cell.is_baseline else _cell(each[name], name) for _, name in columns
        ]
        yield f"| {row.cell.title} | {' | '.join(cells)} |"


def _cell(value: object, name: str) -> str:
    ends = ends_of(value)  # type: ignore[arg-type]
    return f"{value_of(name, value)}{f' ({ends})' if ends else ''}"  # type: ignore[arg-type]


def _figure(results: Results) -> str:
    """The speedup as a picture of its own, which follows the reader's light or dark scheme."""
    sheet = Sheet()
    chart = next(each for each in charts(results) if each.name.startswith("speedup"))
    drawn = inline(chart, sheet)
    colours = (
        f":root{{{variables(dark=False)}}}@media (prefers-color-scheme:dark){{:root{{{variables(dark=True)}}}}}"
        "svg{font-family:sans-serif;background:var(--paper)}"
    )
    start = '<svg xmlns="http://www.w3.org/2000/svg" '
    return re.sub(r"(<svg )([^>]*>)", rf"{start}\2<style>{colours}{sheet.css}</style>", drawn, count=1)


def _write_readme(found: dict[str, Results]) -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"README.md has no place for the sweeps; put in the lines {BEGIN} and {END}")
    _put(path, "\n".join((before + BEGIN, *_summary(found), END + after)).encode())


def _summary(found: dict[str, Results]) -> Iterator[str]:
    plan = found["strategies"].plan
    strategies = [row for row in found["strategies"].rows if row.cell.workers in SHOWN]
    parts = [
        (SWEEPS["strategies"][0], strategies),
        (SWEEPS["one-slot"][0], found["one-slot"].rows),
        (SWEEPS["batching"][0], found["batching"].rows),
    ]
    yield from ("", f"![Speedup by requests in flight](docs/results/sweeps/{FIGURE})", "")
    yield "| work | way | time | speedup, with its 95 % interval |"
    yield "|---|---|---|---|"
    for what, rows in parts:
        for number, row in enumerate(rows):
            ratio = "1" if row.speedup is None else _cell(row.speedup, "speedup")
            yield f"| {'' if number else what} | {row.cell.title} | {value_of('seconds', row.seconds)} | {ratio} |"
    yield ""
    yield (
        f"{plan.repeats} repeats in turns on {plan.machine.get('cores')} cores of an {plan.machine.get('processor')}, "
        f"{plan.created[:10]}; [all suites, with the machine and every reading](docs/results/sweeps.md). One slot: "
        "nothing to gain, and that is said."
    )
    yield ""


def _put(path: Path, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)


if __name__ == "__main__":
    main()

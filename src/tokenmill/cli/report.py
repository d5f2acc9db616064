"""`tokenmill report`: the certificate of a run as text, JSON, CSV, charts or one HTML page; runs side by side."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from tokenmill.cli.carry_out import print_certificate
from tokenmill.cli.files import open_page, write, write_charts
from tokenmill.cli.options import AS_JSON, RUNS_DIR
from tokenmill.cli.screen import is_plain, printable, say, say_encoded, say_json
from tokenmill.driver.gather import certificate_in, gather
from tokenmill.errors import UsageError
from tokenmill.record.folder import find, runs_folder
from tokenmill.report import as_csv, compare
from tokenmill.report import as_json as json_report
from tokenmill.report.dossier import Dossier
from tokenmill.report.plots import Chart

#: The page that --open makes where no file is named.
PAGE = "report.html"
FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True)
class Wanted:
    """The files that were asked for."""

    html: Path | None
    csv: Path | None
    plots: Path | None
    is_shown: bool

    @property
    def any(self) -> bool:
        return any((self.html, self.csv, self.plots))


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--html", type=FILE, help="Write one self-contained page with charts.")
@click.option("--open", "is_shown", is_flag=True, help=f"Show the page in a browser; without --html it is {PAGE}.")
@click.option("--csv", type=FILE, help="Write every figure with its unit and definition.")
@click.option("--plots", type=click.Path(path_type=Path, file_okay=False), help="Write charts there, as PNG and SVG.")
@click.option("--compare", "is_comparison", is_flag=True, help="Several runs side by side, if they did equal work.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of what --json prints.")
@RUNS_DIR
@AS_JSON
def command(
    runs: tuple[str, ...],
    html: Path | None,
    is_shown: bool,
    csv: Path | None,
    plots: Path | None,
    is_comparison: bool,
    schema: bool,
    runs_dir: Path | None,
    as_json: bool,
) -> None:
    """Shows how close RUN (default: last) came to the bound, where the missing seconds went, and what to do.

    \b
    Example:
      tokenmill report last --html report.html --open
    """
    if schema:
        _print_schema()
        return
    _check_number(runs, is_comparison=is_comparison)
    folders = [find(runs_folder(runs_dir), run) for run in runs or ("last",)]
    wanted = Wanted(html or (folders[0] / PAGE if is_shown else None), csv, plots, is_shown)
    if is_comparison:
        _compare(folders, wanted, as_json=as_json)
        return
    if wanted.any:
        _write_files([gather(folders[0])], wanted)
    if as_json:
        say_encoded(json_report.encode(certificate_in(folders[0])))
    elif not wanted.any:
        print_certificate(certificate_in(folders[0]), definitions=True)


def _print_schema() -> None:
    from tokenmill.report import schema

    say_encoded(schema.encode())


def _check_number(runs: Sequence[str], *, is_comparison: bool) -> None:
    if is_comparison and len(runs) < 2:
        raise UsageError("--compare needs two runs or more; 'tokenmill runs list' shows those there are")
    if not is_comparison and len(runs) > 1:
        raise UsageError(f"{len(runs)} runs: add --compare to see them side by side, or name one")


def _compare(folders: Sequence[Path], wanted: Wanted, *, as_json: bool) -> None:
    dossiers = [gather(folder, for_comparison=True) for folder in folders]
    if wanted.any:
        _write_files(dossiers, wanted)
    comparison = compare.compare(dossiers)
    if as_json:
        say_json(comparison)
    elif not wanted.any:
        width = shutil.get_terminal_size((80, 24)).columns
        for line in compare.lines(comparison, width):
            say(printable(line.encode("ascii", "replace").decode() if is_plain() else line))


def _write_files(dossiers: Sequence[Dossier], wanted: Wanted) -> None:
    if wanted.csv is not None:
        write(wanted.csv, as_csv.encode(dossiers))
    if wanted.plots is not None:
        write_charts(wanted.plots, _charts(dossiers))
    if wanted.html is not None:
        write(wanted.html, _page(dossiers).encode())
    if wanted.is_shown and wanted.html is not None:
        open_page(wanted.html)


def _page(dossiers: Sequence[Dossier]) -> str:
    from tokenmill.report import as_html, compare_html

    return as_html.html(dossiers[0]) if len(dossiers) == 1 else compare_html.html(compare.compare(dossiers))


def _charts(dossiers: Sequence[Dossier]) -> list[Chart]:
    from tokenmill.report import charts, compare_html

    if len(dossiers) > 1:
        return [compare_html.chart_of(compare.compare(dossiers))]
    return charts.charts(dossiers[0].picture)

"""The files that a sweep leaves if they are asked for: a page, tables, charts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from tokenmill.bench.as_json import Report
from tokenmill.cli.files import open_page, write, write_charts

#: The page that --open makes where no file is named.
PAGE = "report.html"

OPTIONS = (
    click.Option(["--html"], type=click.Path(path_type=Path, dir_okay=False), help="Write one page with charts."),
    click.Option(["--open", "is_shown"], is_flag=True, help=f"Show it in a browser; without --html it is {PAGE}."),
    click.Option(
        ["--csv"],
        type=click.Path(path_type=Path, dir_okay=False),
        help="Write a line for each cell, and those of readings beside it.",
    ),
    click.Option(
        ["--plots"], type=click.Path(path_type=Path, file_okay=False), help="Write charts there, as PNG and SVG."
    ),
)


class Wanted(Struct, frozen=True, kw_only=True):
    """The files that were asked for."""

    html: Path | None = None
    csv: Path | None = None
    plots: Path | None = None
    is_shown: bool = False

    def check(self) -> None:
        """Refuses charts that can't be drawn here, before anything is measured; raises `UsageError`."""
        if self.html or self.plots or self.is_shown:
            from tokenmill.report.plots import drawing

            with drawing():
                return

    def write(self, report: Report, folder: Path) -> None:
        """Writes them; the page goes to the sweep's `folder` if it was given no place."""
        if self.csv is not None:
            from tokenmill.bench import as_csv

            write(self.csv, as_csv.cells(report.results))
            write(self.csv.with_name(f"{self.csv.stem}-readings{self.csv.suffix}"), as_csv.readings(report.results))
        if self.plots is not None:
            from tokenmill.bench.charts import charts

            write_charts(self.plots, charts(report.results))
        page = self.html or (folder / PAGE if self.is_shown else None)
        if page is not None:
            from tokenmill.bench import as_html

            write(page, as_html.html(report).encode())
            if self.is_shown:
                open_page(page)


def file_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same options for a command that is written by hand."""
    for option in reversed(OPTIONS):
        names = option.opts if option.name in ("html", "csv", "plots") else [*option.opts, option.name or ""]
        function = click.option(*names, type=option.type, is_flag=option.is_flag, help=option.help)(function)
    return function


def wanted_of(given: dict[str, Any]) -> Wanted:
    """Takes these options out of all that were given."""
    return Wanted(**{option.name: given.pop(option.name) for option in OPTIONS if option.name})

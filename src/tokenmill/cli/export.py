"""`tokenmill export`: the answers of a run as a file."""

from __future__ import annotations

from pathlib import Path

import click

from tokenmill.cli.options import OUTPUT, RUNS_DIR
from tokenmill.cli.screen import printable, tell
from tokenmill.driver.prepare import RECORD, check_output, located
from tokenmill.driver.session import options_of
from tokenmill.errors import UsageError
from tokenmill.record.export import FORMATS, export, format_of
from tokenmill.record.folder import Manifest, find, read_manifest, runs_folder
from tokenmill.record.store import Record, Result
from tokenmill.workload import Reader


@click.command()
@click.argument("run", default="last")
@OUTPUT
@click.option(
    "--format",
    "format_",
    type=click.Choice((*FORMATS, "json")),
    help="Default by the name of the output; json is for data sets.",
)
@click.option("--with-input", is_flag=True, help="CSV and Parquet: the columns of the input before the answer.")
@click.option("--with-timings", is_flag=True, help="JSONL: nodes, attempts and times of each request.")
@click.option("--raw-cells", is_flag=True, help="CSV: leave cells that a spreadsheet takes for formulas as they are.")
@RUNS_DIR
def command(
    run: str,
    output: Path | None,
    format_: str | None,
    with_input: bool,
    with_timings: bool,
    raw_cells: bool,
    runs_dir: Path | None,
) -> None:
    """Writes what RUN has answered so far, in input order; failed requests go to *.errors.jsonl as well.

    \b
    Example:
      tokenmill export last -o answers.csv --with-input
    """
    if output is None:
        raise UsageError("export needs -o FILE, such as -o answers.jsonl")
    folder = find(runs_folder(runs_dir), run)
    manifest = read_manifest(folder)
    options = options_of(manifest)
    if options.pipeline is not None and with_input:
        raise UsageError("a data set holds its input anyway; leave --with-input out")
    if with_input and format_of(output, format_) not in ("csv", "parquet"):
        raise UsageError(f"{output}: input columns are for CSV and Parquet; leave --with-input out")
    if options.pipeline is not None:
        _export_data_set(folder, manifest, output, format_)
        return
    check_output(output, options.workload, format_, with_timings=with_timings)
    record = Record(folder / RECORD)
    try:
        with Reader(options.workload, located(manifest.input, folder)) as reader:

            def row_of(result: Result) -> dict[str, object]:
                return reader.fields(result.offset, result.length, result.line) if result.length else {}

            rows = export(
                record,
                manifest,
                output,
                chosen=format_,
                with_timings=with_timings,
                input_row=row_of if with_input else None,
                neutralize=not raw_cells,
            )
    finally:
        record.close()
    tell(printable(f"{rows} of {manifest.rows} rows written to {output}"))


def _export_data_set(folder: Path, manifest: Manifest, output: Path, chosen: str | None) -> None:
    from tokenmill.driver.data_set import write_data_set

    options = options_of(manifest)
    check_output(output, options.workload, chosen, recipe=options.pipeline)
    record = Record(folder / RECORD)
    try:
        found = located(manifest.input, folder)
        items = write_data_set(record, manifest, options, found, output, chosen=chosen)
    finally:
        record.close()
    tell(printable(f"{items} items written to {output}"))

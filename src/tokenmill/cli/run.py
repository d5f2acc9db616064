"""`tokenmill run`: from an input to recorded answers and a certificate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tokenmill.cli.options import (
    ANSWER_OPTIONS,
    AS_JSON,
    OUTPUT,
    QUIET,
    RUNS_DIR,
    SETTING_OPTIONS,
    answer_choices,
    given_settings,
    stacked,
)
from tokenmill.errors import UsageError

WORKLOAD_OPTIONS = stacked(
    click.option("--format", "format_", help="txt, jsonl, openai, csv or parquet; default by name and content."),
    click.option("--prompt-column", help="The field or column that holds the prompt."),
    click.option("--template", help="A Jinja2 template that makes the prompt from a row's fields."),
    click.option("--id-column", help="The field or column that holds the id; default custom_id."),
    click.option("--system", help="A system message put before every prompt."),
    click.option("--limit", type=click.IntRange(1), help="Take only the first N rows."),
    click.option(
        "--bad-rows",
        type=click.Choice(["refuse", "fail"]),
        default="refuse",
        show_default=True,
        help="Rows that can't be sent: refuse the whole input, or let them fail alone.",
    ),
)


@click.command()
@click.argument("source")
@WORKLOAD_OPTIONS
@ANSWER_OPTIONS
@SETTING_OPTIONS
@OUTPUT
@RUNS_DIR
@click.option("--run-id", help="A name for the run; default its date and time.")
@click.option("--extend", metavar="RUN", help="Add the new rows of an input that grew to this run, and answer them.")
@click.option("--dry-run", is_flag=True, help="Validate and predict; send nothing, keep nothing.")
@AS_JSON
@QUIET
def command(
    source: str,
    output: Path | None,
    runs_dir: Path | None,
    run_id: str | None,
    extend: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Answers every prompt of SOURCE: a .txt, .jsonl, .csv or .parquet file, '-' for standard input, or a built-in set
    (sentences, sentences-15, texts, synthetic:...).

    Every answer is recorded durably as it comes; an interrupted run goes on with 'tokenmill resume'.

    \b
    Examples:
      tokenmill run sentences --model demo -o answers.jsonl
      tokenmill run rows.csv --template "To French: {{ text }}" --model ./folder
      tokenmill run prompts.txt --node scripted:script.toml --dry-run
    """
    from tokenmill.cli.carry_out import carry_out
    from tokenmill.driver.options import Options, Settings, absolute
    from tokenmill.driver.prepare import prepare
    from tokenmill.driver.resume import merged_settings
    from tokenmill.record.folder import find, read_manifest, runs_folder
    from tokenmill.workload import Spec

    answers = answer_choices(chosen, notice=not quiet)
    workload = Spec(
        source=absolute(source),
        format=chosen["format_"],
        prompt_column=chosen["prompt_column"],
        template=chosen["template"],
        id_column=chosen["id_column"],
        system=chosen["system"],
        limit=chosen["limit"],
        bad_rows=chosen["bad_rows"],
        sampling=answers.sampling,
    )
    options = Options(workload=workload, **answers.rest)
    settings = Settings(**given_settings(chosen))
    runs = runs_folder(runs_dir)
    _check_together(extend, run_id=run_id, output=output, dry_run=dry_run)
    with _nothing_sent():
        if dry_run:
            from tokenmill.cli.forecast import show
            from tokenmill.driver.forecast import forecast

            show(forecast(options, settings, runs), as_json=as_json)
            return
        if extend is not None:
            from tokenmill.driver.extend import extend_run

            folder = find(runs, extend)
            settings = merged_settings(read_manifest(folder), given_settings(chosen))
            extend_run(folder, options, settings)
        else:
            folder = prepare(options, settings, runs=runs, run_id=run_id, output=output)
    carry_out(folder, settings, as_json=as_json, quiet=quiet)


@contextlib.contextmanager
def _nothing_sent() -> Iterator[None]:
    """Says so if Ctrl-C ends the preparation, which leaves no run behind."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise UsageError("interrupted while the input was read; nothing was sent, start again") from error


def _check_together(extend: str | None, *, run_id: str | None, output: Path | None, dry_run: bool) -> None:
    """A run that is extended has its name and its output already."""
    if extend is None:
        return
    for option, given in (("--run-id", run_id), ("--output", output), ("--dry-run", dry_run or None)):
        if given is not None:
            raise UsageError(f"--extend adds rows to run {extend!r} as it is; leave {option} out")

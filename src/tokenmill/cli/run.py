"""`tokenmill run`: from an input to recorded answers and a certificate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenmill.cli.options import (
    ANSWER_OPTIONS,
    AS_JSON,
    NODE_OPTIONS,
    OUTPUT,
    QUIET,
    RUNS_DIR,
    SETTING_OPTIONS,
    WORKLOAD_OPTIONS,
    Sectioned,
    answer_choices,
    given_settings,
    some_node,
)
from tokenmill.cli.rows import ROW_OPTIONS, row_choices, tell_skipped
from tokenmill.errors import UsageError

if TYPE_CHECKING:
    from tokenmill.driver.options import Options, Settings
    from tokenmill.pipeline import Recipe


@click.command(cls=Sectioned)
@click.argument("source")
@WORKLOAD_OPTIONS
@ROW_OPTIONS
@NODE_OPTIONS
@ANSWER_OPTIONS
@SETTING_OPTIONS
@OUTPUT
@RUNS_DIR
@click.option(
    "--pipeline",
    metavar="RECIPE",
    help="Make a data set: a recipe file, or contrastive, paraphrase, qa or judge. See docs/pipelines.md.",
)
@click.option(
    "--embedding",
    metavar="NODE",
    help="What makes the vectors that a recipe compares: local:FOLDER, a server, or 'words' for wording alone.",
)
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
    """Answers every prompt of SOURCE: a .txt, .jsonl, .json, .csv or .parquet file, a folder of such with --split, '-'
    for standard input, or a built-in set (sentences, sentences-15, texts, synthetic:...).

    Every answer is recorded durably as it comes; an interrupted run goes on with 'tokenmill resume'.

    \b
    Examples:
      tokenmill run sentences --model demo -o answers.jsonl
      tokenmill run rows.csv --template "To French: {{ text }}" --model ./folder
      tokenmill run prompts.txt --node scripted:script.toml --dry-run
      tokenmill run rows.jsonl --pipeline recipe.toml -o data.jsonl
    """
    from tokenmill.cli.carry_out import carry_out
    from tokenmill.driver.options import Settings
    from tokenmill.driver.prepare import check_output, prepare
    from tokenmill.record.folder import runs_folder

    options = _options(source, chosen)
    given = given_settings(chosen)
    settings = Settings(**(given if extend else some_node(given, notice=not quiet)))
    runs = runs_folder(runs_dir)
    _check_together(extend, run_id=run_id, output=output, dry_run=dry_run)
    with _nothing_sent():
        if dry_run:
            from tokenmill.cli.forecast import show
            from tokenmill.driver.forecast import forecast

            if output is not None:
                spec, recipe = options.workload, options.pipeline
                check_output(output, spec, with_timings=settings.with_timings, recipe=recipe)
            show(forecast(options, settings, runs), as_json=as_json)
            return
        if extend is not None:
            folder, settings = _extended(runs, extend, options, chosen)
        else:
            folder = prepare(options, settings, runs=runs, run_id=run_id, output=output)
            tell_skipped(folder, quiet=quiet)
    carry_out(folder, settings, as_json=as_json, quiet=quiet, surveyed=True)


def check_run(given: dict[str, Any]) -> None:
    """Raises `UsageError` for parameters of `run` with which nothing could be prepared; keeps nothing.

    Workers aren't looked at: they may be where this machine isn't.
    """
    from tokenmill.driver.forecast import forecast
    from tokenmill.driver.options import Settings
    from tokenmill.record.folder import runs_folder

    settings = Settings(**some_node(given_settings(given), notice=False) | {"on": None})
    forecast(_options(given["source"], given), settings, runs_folder(given["runs_dir"]))


def _options(source: str, chosen: dict[str, Any]) -> Options:
    from tokenmill.driver.options import Options, absolute
    from tokenmill.workload import Spec

    answers = answer_choices(chosen)
    workload = Spec(
        source=absolute(source),
        format=chosen["format_"],
        prompt_column=chosen["prompt_column"],
        template=chosen["template"],
        id_column=chosen["id_column"],
        system=chosen["system"],
        limit=chosen["limit"],
        endpoint=chosen["endpoint"],
        bad_rows=chosen["bad_rows"],
        sampling=answers.sampling,
        **row_choices(chosen),
    )
    return Options(workload=workload, pipeline=_recipe(chosen), **answers.rest)


def _recipe(chosen: dict[str, Any]) -> Recipe | None:
    named, embedding = chosen["pipeline"], chosen["embedding"]
    if named is None:
        if embedding is not None:
            raise UsageError("--embedding is for the checks of a recipe; give --pipeline too, or leave it out")
        return None
    from msgspec.structs import replace

    from tokenmill.driver.options import settled_node
    from tokenmill.pipeline.read import load

    found = load(named, embedding=embedding)
    if found.embedding is None:
        return found
    return replace(found, embedding=settled_node(found.embedding))  # a resume may be in another folder


def _extended(runs: Path, run: str, options: Options, chosen: dict[str, Any]) -> tuple[Path, Settings]:
    """The folder of a run with the new rows in it, and its settings with those given now."""
    from tokenmill.driver.extend import extend_run
    from tokenmill.driver.resume import merged_settings
    from tokenmill.record.folder import find, read_manifest

    folder = find(runs, run)
    settings = merged_settings(read_manifest(folder), given_settings(chosen))
    extend_run(folder, options, settings)
    return folder, settings


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

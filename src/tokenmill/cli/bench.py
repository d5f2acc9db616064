"""`tokenmill bench`: which way is fastest here, by how much, and why not faster."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from tokenmill.bench.as_json import Report, encode_schema, report_of
from tokenmill.bench.columns import DEFINITIONS
from tokenmill.bench.compare import compare_sweeps
from tokenmill.bench.folder import SweepFolder, find_sweep, sweeps_folder
from tokenmill.bench.suite import SUITES, Concludes, Settles, suite_of
from tokenmill.bench.sweep import carry_on, results_of
from tokenmill.cli.bench_files import OPTIONS, Wanted, file_options, wanted_of
from tokenmill.cli.bench_options import convert, options_of
from tokenmill.cli.bench_progress import watching
from tokenmill.cli.bench_table import show, show_changes
from tokenmill.cli.finite import FiniteRange
from tokenmill.cli.options import AS_JSON
from tokenmill.cli.screen import line_for, say, say_encoded, say_json, tell
from tokenmill.errors import StorageError
from tokenmill.stats.library import needs_scipy
from tokenmill.stats.target import parse, worst

#: Exit codes: a target was missed, a cell got slower, or nothing was answered whole; Ctrl-C, and `resume` goes on.
MISSED, INTERRUPTED = 3, 4

BENCH_DIR = click.option(
    "--bench-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where sweeps are kept; else TOKENMILL_BENCH, else the user's state folder.",
)
COMMON = (
    click.Option(["--repeats"], type=click.IntRange(1), default=5, help="Readings of each cell, in turns. [5]"),
    click.Option(["--seed"], type=int, default=0, help="The order of the readings is drawn from it. [0]"),
    click.Option(
        ["--discard"],
        type=click.IntRange(0),
        default=1,
        help="Readings that are taken first and thrown away, also when a sweep goes on. [1]",
    ),
    click.Option(
        ["--target"], multiple=True, metavar="T", help="Such as 'speedup@8>=4'; exit code 3 if one is missed."
    ),
    click.Option(
        ["--bench-dir"],
        type=click.Path(path_type=Path, file_okay=False),
        help="Where sweeps are kept; else TOKENMILL_BENCH, else the user's state folder.",
    ),
    click.Option(["--json", "as_json"], is_flag=True, help="Print the results as JSON."),
    click.Option(["-q", "--quiet"], is_flag=True, help="No progress."),
    *OPTIONS,
)


class Suites(click.Group):
    """A command for each suite, imported when it is called, beside those that work on sweeps."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*SUITES, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _suite_command(cmd_name) if cmd_name in SUITES else super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        with formatter.section("Suites"):
            formatter.write_dl([(name, line) for name, (_, line) in SUITES.items()])
        others = [(name, each.get_short_help_str(70)) for name, each in sorted(self.commands.items())]
        with formatter.section("Sweeps"):
            formatter.write_dl(others)


@click.group(cls=Suites)
def command() -> None:
    """Measures which way is fastest here, in turns and on equal work, with intervals.

    \b
    Example:
      tokenmill bench strategies --engine scripted --slots 1,4,inf
      tokenmill bench resume last
      tokenmill bench compare OLD NEW
    """


def _suite_command(name: str) -> click.Command:
    suite = suite_of(name)

    def begin(**given: Any) -> None:
        wanted = wanted_of(given)
        common = {option.name: given.pop(option.name) for option in COMMON if option.name in given}
        options = convert(suite.options, given)
        targets = tuple(common["target"])
        parse(targets, list(DEFINITIONS))
        _check_tools(wanted)
        where = sweeps_folder(common["bench_dir"])
        if isinstance(suite, Settles):
            options = suite.settled(options, where)
        cells = suite.cells(options)  # refuses what doesn't go together before a folder is made
        data = msgspec.to_builtins(options)
        folder = SweepFolder.create(
            where,
            name,
            data,
            repeats=common["repeats"],
            seed=common["seed"],
            targets=targets,
            discard=common["discard"],
        )
        if not common["quiet"]:
            tell(f"{len(cells)} cells, {common['repeats']} repeats; kept in {folder.path}")
        _go_on(folder, wanted, as_json=common["as_json"], quiet=common["quiet"])

    example = f"\n\n\b\nExample:\n  tokenmill bench {name} {suite.example}"
    return click.Command(
        name, callback=begin, params=[*options_of(suite.options), *COMMON], help=f"{SUITES[name][1]}{example}"
    )


@command.command()
@click.argument("sweep", default="last")
@BENCH_DIR
@AS_JSON
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@file_options
def resume(sweep: str, bench_dir: Path | None, as_json: bool, quiet: bool, **files: Any) -> None:
    """Takes the readings of SWEEP that are missing, and shows it.

    \b
    Example:
      tokenmill bench resume last
    """
    wanted = wanted_of(files)
    _check_tools(wanted)
    _go_on(find_sweep(sweeps_folder(bench_dir), sweep), wanted, as_json=as_json, quiet=quiet)


@command.command(name="show")
@click.argument("sweep", default="last")
@BENCH_DIR
@AS_JSON
@click.option("--schema", is_flag=True, help="Print the JSON Schema of what --json prints.")
@file_options
def show_command(sweep: str, bench_dir: Path | None, as_json: bool, schema: bool, **files: Any) -> None:
    """Shows SWEEP as far as it was measured, or writes it into files.

    \b
    Example:
      tokenmill bench show last --html sweep.html --open
    """
    if schema:
        say_encoded(encode_schema())
        return
    wanted = wanted_of(files)
    _check_tools(wanted)
    _show(find_sweep(sweeps_folder(bench_dir), sweep), wanted, as_json=as_json)


@command.command()
@click.argument("old")
@click.argument("new")
@click.option("--least", type=FiniteRange(0), default=0.02, help="The least effect that counts, as a share. [0.02]")
@BENCH_DIR
@AS_JSON
def compare(old: str, new: str, least: float, bench_dir: Path | None, as_json: bool) -> None:
    """Finds cells of NEW that are slower than in OLD, by effect and interval; exit code 3 if there are any.

    \b
    Example:
      tokenmill bench compare strategies-20261101-120000-ab12 last
    """
    where = sweeps_folder(bench_dir)
    changes = compare_sweeps(results_of(find_sweep(where, old)), results_of(find_sweep(where, new)), least)
    if as_json:
        say_json(changes)
    else:
        for line in show_changes(changes):
            say(line)
    if changes.regressions:
        sys.exit(MISSED)


def _check_tools(wanted: Wanted) -> None:
    """Says what isn't installed before anything is measured: an hour later it would be a nuisance."""
    with needs_scipy("a sweep"):
        import scipy  # noqa: F401
    wanted.check()


def _go_on(folder: SweepFolder, wanted: Wanted, *, as_json: bool, quiet: bool) -> None:
    """Measures what is left and shows it. Whatever ends it early, the line that goes on is told."""
    way = line_for("bench resume", folder.path)
    try:
        is_whole = _measure(folder, quiet=quiet)
    except StorageError as error:
        raise StorageError(f"{error}; free space, then go on with: {way}") from error
    except KeyboardInterrupt:  # before the first reading, or after the last
        is_whole = False
    if not is_whole:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends now, and a further one must not change its code
        tell(f"tokenmill: stopped; what was measured is kept. Go on with: {way}")
        sys.exit(INTERRUPTED)
    report = _show(folder, wanted, as_json=as_json)
    if worst(report.targets) == "fail" or not any(reading.is_whole for reading in report.results.readings):
        sys.exit(MISSED)


def _measure(folder: SweepFolder, *, quiet: bool) -> bool:
    """False if it was interrupted. What a sweep came to is kept for runs when it gets whole, and only then."""
    before = folder.readings()
    with watching(quiet=quiet) as watch:
        if not carry_on(folder, watch):
            return False
    plan, now = folder.plan, folder.readings()
    suite = suite_of(plan.suite)
    if isinstance(suite, Concludes) and now != before:
        for line in suite.conclude(msgspec.convert(plan.options, suite.options), results_of(folder).rows):
            tell(line)
    return True


def _show(folder: SweepFolder, wanted: Wanted, *, as_json: bool) -> Report:
    report = report_of(results_of(folder))
    wanted.write(report, folder.path)
    if as_json:
        say_json(report)
        return report
    for line in show(report.results, report.targets):
        say(line)
    return report

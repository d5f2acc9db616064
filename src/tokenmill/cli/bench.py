"""`tokenmill bench`: which way is fastest here, by how much, and why not faster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from tokenmill.bench.columns import DEFINITIONS, points_of
from tokenmill.bench.compare import compare_sweeps
from tokenmill.bench.folder import SweepFolder, find_sweep, sweeps_folder
from tokenmill.bench.suite import SUITES, Concludes, Settles, suite_of
from tokenmill.bench.sweep import Results, Step, carry_on, results_of
from tokenmill.cli.bench_options import convert, options_of
from tokenmill.cli.bench_table import show, show_changes
from tokenmill.cli.options import AS_JSON
from tokenmill.cli.screen import say, say_json, tell
from tokenmill.report.numbers import seconds
from tokenmill.stats.target import Judged, judge_all, parse, worst

#: Exit codes: a target was missed or a cell got slower; Ctrl-C, and the sweep goes on with `resume`.
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
        ["--target"], multiple=True, metavar="T", help="Such as 'speedup@8>=4'; exit code 3 if one is missed."
    ),
    click.Option(
        ["--bench-dir"],
        type=click.Path(path_type=Path, file_okay=False),
        help="Where sweeps are kept; else TOKENMILL_BENCH, else the user's state folder.",
    ),
    click.Option(["--json", "as_json"], is_flag=True, help="Print the results as JSON."),
    click.Option(["-q", "--quiet"], is_flag=True, help="No progress."),
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
        common = {option.name: given.pop(option.name) for option in COMMON if option.name}
        options = convert(suite.options, given)
        targets = tuple(common["target"])
        parse(targets, list(DEFINITIONS))
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
        )
        if not common["quiet"]:
            tell(f"{len(cells)} cells, {common['repeats']} repeats; kept in {folder.path}")
        _go_on(folder, as_json=common["as_json"], quiet=common["quiet"])

    example = f"\n\n\b\nExample:\n  tokenmill bench {name} {suite.example}"
    return click.Command(
        name, callback=begin, params=[*options_of(suite.options), *COMMON], help=f"{SUITES[name][1]}{example}"
    )


@command.command()
@click.argument("sweep", default="last")
@BENCH_DIR
@AS_JSON
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def resume(sweep: str, bench_dir: Path | None, as_json: bool, quiet: bool) -> None:
    """Takes the readings of SWEEP that are missing, and shows it.

    \b
    Example:
      tokenmill bench resume last
    """
    _go_on(find_sweep(sweeps_folder(bench_dir), sweep), as_json=as_json, quiet=quiet)


@command.command(name="show")
@click.argument("sweep", default="last")
@BENCH_DIR
@AS_JSON
def show_command(sweep: str, bench_dir: Path | None, as_json: bool) -> None:
    """Shows SWEEP as far as it was measured.

    \b
    Example:
      tokenmill bench show last
    """
    _show(results_of(find_sweep(sweeps_folder(bench_dir), sweep)), as_json=as_json)


@command.command()
@click.argument("old")
@click.argument("new")
@click.option(
    "--least", type=click.FloatRange(0), default=0.02, help="The least effect that counts, as a share. [0.02]"
)
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


def _go_on(folder: SweepFolder, *, as_json: bool, quiet: bool) -> None:
    was_complete = results_of(folder).complete
    is_whole = carry_on(folder, (lambda _: None) if quiet else _watch)
    if not is_whole:
        tell(f"tokenmill: stopped; what was measured is kept. Go on with: tokenmill bench resume {folder.path}")
        sys.exit(INTERRUPTED)
    results = results_of(folder)
    suite = suite_of(results.plan.suite)
    if isinstance(suite, Concludes) and not was_complete:
        for line in suite.conclude(msgspec.convert(results.plan.options, suite.options), results.rows):
            tell(line)
    outcome = worst(_show(results, as_json=as_json))
    if outcome == "fail":
        sys.exit(MISSED)


def _show(results: Results, *, as_json: bool) -> tuple[Judged, ...]:
    judged = judge_all(parse(results.plan.targets, list(DEFINITIONS)), points_of(results.rows))
    if as_json:
        say_json({"results": results, "targets": judged, "definitions": DEFINITIONS})
    else:
        for line in show(results, judged):
            say(line)
    return judged


def _watch(step: Step) -> None:
    left = "" if step.eta is None else f", {seconds(step.eta)} left"
    width = "" if step.spread is None else f", widest interval {100 * step.spread:.0f} %"
    name = f"{step.cell.group} {step.cell.title}".strip()
    tell(f"{step.done + 1}/{step.total} {name}, repeat {step.repeat + 1}{width}{left}")

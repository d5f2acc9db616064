"""`tokenmill quantize`: makes the weights of a model small, into files that engines load."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenmill import __version__
from tokenmill.cli.options import AS_JSON, Sectioned, Size, stacked
from tokenmill.cli.screen import tell
from tokenmill.errors import TokenmillError, UsageError

if TYPE_CHECKING:
    from tokenmill.quant.layout import Options
    from tokenmill.quant.quantize import Outcome, Plan, Settings

#: What ends a run so that it can go on, and is told with the line that does it.
RESUMABLE = 4
#: Notes of a plan that are told before it is carried out.
NOTES = 6

TYPE_OPTIONS = stacked(
    "Types",
    click.option(
        "--to",
        metavar="NAME",
        help="q8_0, q4_0, q4_k_m, q5_k_m, q6_k ... for a GGUF file, w4a16, w4a16-g32 or w8a16 for a folder.",
    ),
    click.option(
        "--keep",
        metavar="PATTERN=TYPE",
        multiple=True,
        help="Another type for tensors whose names fit, such as '*.ffn_down.*=q8_0'; may be given again.",
    ),
    click.option(
        "--scale",
        metavar="NAME",
        default="absmax",
        help="absmax (default), or mse for less error in the same format (w4a16 and w4a16-g32).",
    ),
)
SPEED_OPTIONS = stacked(
    "Speed and memory",
    click.option("--threads", metavar="N", type=click.IntRange(1, 1024), help="Default: all cores."),
    click.option(
        "--mode",
        type=click.Choice(["stream", "batch"]),
        default="stream",
        help="stream (default) in constant memory; batch holds everything, to compare with.",
    ),
    click.option(
        "--max-memory", type=Size(), help="Beyond what the interpreter takes, such as 64M; fewer threads fit."
    ),
)


@click.command(cls=Sectioned)
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@TYPE_OPTIONS
@SPEED_OPTIONS
@click.option("--dry-run", is_flag=True, help="Show types, sizes, memory, disk and time; write nothing.")
@click.option("--report", is_flag=True, help="Compare each tensor with what it was: RMSE, SQNR, cosine, largest error.")
@click.option("--force", is_flag=True, help="Replace OUT, and start over a partial one that was begun otherwise.")
@AS_JSON
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary.")
def command(model: str, out: Path, dry_run: bool, as_json: bool, quiet: bool, **chosen: Any) -> None:
    """Makes MODEL small: OUT becomes a GGUF file (.gguf) or a folder of compressed-tensors, as --to says.

    MODEL is a model folder, a hub id, 'demo', or a GGUF file of F32, F16 or BF16. Nothing has the name OUT before it is
    whole; after Ctrl-C, a crash or a power cut the same command goes on where it was.

    \b
    Example:
      tokenmill quantize ./my-model my-model-q4.gguf --to q4_k_m
      tokenmill quantize ./my-model ./my-model-w4 --to w4a16 --report
      tokenmill quantize demo demo.gguf --to q8_0 --dry-run
    """
    from tokenmill.quant.kernels import without_scipy
    from tokenmill.quant.layout import Options

    pairs = _pairs(chosen["keep"])
    with _needs_numpy(), without_scipy():
        from tokenmill.quant.quantize import Settings
        from tokenmill.quant.target import known_names

        if not chosen["to"]:
            raise UsageError(f"no type to quantize to; name one with --to: {', '.join(known_names())}")
        options = Options(to=chosen["to"].lower(), keep=pairs, scale=chosen["scale"])
        settings = Settings(
            threads=chosen["threads"],
            mode=chosen["mode"],
            max_memory=chosen["max_memory"],
            force=chosen["force"],
            report=chosen["report"],
        )
        place = _place(model)
        plan = _plan(place, out, options, settings)
        if dry_run:
            _show_plan(plan, as_json=as_json)
        else:
            _carry_out(plan, _line(place, out, options, settings), options, settings, as_json=as_json, quiet=quiet)


def _pairs(keep: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    found = []
    for text in keep:
        pattern, sign, kind = text.rpartition("=")
        if not sign or not pattern or not kind:
            raise UsageError(f"--keep {text!r} isn't PATTERN=TYPE; write it as in --keep 'lm_head*=q8_0'")
        found.append((pattern, kind))
    return tuple(found)


@contextlib.contextmanager
def _needs_numpy() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "tokenmill":
            raise
        raise UsageError(
            f"quantizing needs {error.name}, which isn't installed; add it with: pip install 'tokenmill[quant]'"
        ) from error


def _place(model: str) -> Path:
    """The folder or file of the model, found without the engine's parts where it is simply there."""
    with contextlib.suppress(OSError):
        if model and Path(model).exists():
            return Path(model)
    from tokenmill.engine.local.folder import resolve

    return resolve(model)


def _plan(model: Path, out: Path, options: Options, settings: Settings) -> Plan:
    from tokenmill.quant.quantize import make_plan
    from tokenmill.quant.target import check_options, plan_layout, read_model

    check_options(options, out)
    weights = read_model(model)
    return make_plan(weights, plan_layout(weights, model, options), out, settings)


def _show_plan(plan: Plan, *, as_json: bool) -> None:
    from tokenmill.cli.quantize_table import show_plan
    from tokenmill.clock import MonotonicClock
    from tokenmill.quant.dry_run import estimate

    plan.output.check(plan.weights.files)
    plan.output.check_space()
    show_plan(plan, estimate(plan, MonotonicClock()), as_json=as_json)


def _carry_out(plan: Plan, line: str, options: Options, settings: Settings, *, as_json: bool, quiet: bool) -> None:
    from tokenmill.cli.quantize_table import show_outcome

    if not plan.output.journal.exists():  # else it is gone on with, and maybe whole already
        plan.output.check(plan.weights.files)
    if not quiet:
        for note in plan.notes[:NOTES]:
            tell(f"tokenmill: {note}")
        if len(plan.notes) > NOTES:
            tell(f"tokenmill: {len(plan.notes) - NOTES} more such notes; --dry-run shows all")
    try:
        outcome = _quantize(plan, options, settings, as_json=as_json, quiet=quiet)
    except TokenmillError as error:
        if error.exit_code == RESUMABLE:
            raise type(error)(f"{error}; go on with: {line}") from error
        raise
    if as_json or not quiet:
        show_outcome(plan, outcome, as_json=as_json)


def _quantize(plan: Plan, options: Options, settings: Settings, *, as_json: bool, quiet: bool) -> Outcome:
    from tokenmill.cli.quantize_progress import watching
    from tokenmill.clock import MonotonicClock
    from tokenmill.quant.quantize import quantize

    with _signals() as is_stopped, watching(quiet=quiet, as_json=as_json) as watch:
        return quantize(
            plan,
            options,
            settings,
            version=__version__,
            watch=watch,
            should_stop=is_stopped,
            clock=MonotonicClock(),
        )


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Notes the first SIGINT or SIGTERM, so that what is done can be kept; a second one ends the process at once."""
    received: list[int] = []

    def note(number: int, _: object) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _line(model: Path, out: Path, options: Options, settings: Settings) -> str:
    """The command line that goes on with an interrupted one, from wherever it is typed."""
    words = ["tokenmill", "quantize", str(model.absolute()), str(out.absolute()), "--to", options.to]
    for pattern, kind in options.keep:
        words += ["--keep", f"{pattern}={kind}"]
    if options.scale != "absmax":
        words += ["--scale", options.scale]
    if settings.threads:
        words += ["--threads", str(settings.threads)]
    if settings.mode != "stream":
        words += ["--mode", settings.mode]
    if settings.max_memory:
        words += ["--max-memory", str(settings.max_memory)]
    if settings.report:
        words.append("--report")
    if settings.force and os.path.lexists(out):
        words.append("--force")
    return shlex.join(words)

"""`tokenmill launch`: a run whose workers are started by a launcher, with all of that launcher's options."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import click

from tokenmill.cli.finite import FiniteRange
from tokenmill.cli.options import Decorator
from tokenmill.errors import UsageError
from tokenmill.launch.spec import SILENCE, On, checked

#: Kind of launcher, its command, and the line that `--help` shows without importing it.
COMMANDS = {
    "processes": ("tokenmill.cli.launch:processes", "Processes of this machine, its cores divided among them."),
    "torchrun": ("tokenmill.cli.launch:torchrun", "Ranks of this machine under torchrun."),
    "slurm": ("tokenmill.cli.launch_slurm:command", "Ranks of a SLURM job that this writes and submits."),
    "ray": ("tokenmill.cli.launch_ray:command", "Actors of a Ray cluster."),
}
#: Commands that start or go on with a run, and so can be launched.
RUNS = ("run", "resume", "retry")
#: Where a context keeps what was typed behind `launch`.
WORDS = "tokenmill.launch.words"

WORKERS = click.option("--workers", metavar="N", type=click.IntRange(1), default=1, help="Workers; default 1.")
TP = click.option("--tp", metavar="N", type=click.IntRange(1), default=1, help="Ranks that share one model; default 1.")
TP_ENGINE = click.option(
    "--tp-engine",
    type=click.Choice(["native", "deepspeed"]),
    default="native",
    help="Who divides the model; default native.",
)
MOST = click.option("--most", metavar="N", type=click.IntRange(1), help="Workers at the same time if more join late.")
SILENT = click.option(
    "--silence",
    metavar="X",
    type=FiniteRange(1),
    default=SILENCE,
    help="Seconds without a word after which a worker counts as lost; default 10.",
)
FORCE = click.option("--force", is_flag=True, help="More threads than cores are fine.")
ADDRESS = click.option("--address", metavar="HOST", help="Where workers of other hosts reach this one.")
PORT = click.option("--port", metavar="N", type=click.IntRange(0, 65535), default=0, help="And at which port.")
ARGUMENTS = click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="-- run ARGS...")


def taking(*options: Decorator) -> Decorator:
    """Several options as one decorator, the command to launch behind them."""

    def apply(command: Any) -> Any:
        for option in reversed((*options, ARGUMENTS)):
            command = option(command)
        return command

    return apply


class Kinds(click.Group):
    """A group that knows its commands by name and loads one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            raise click.UsageError(f"no launcher {cmd_name!r}; known: {', '.join(COMMANDS)}", ctx)
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = [*args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            words: list[str] = ctx.meta[WORDS]
            behind = next((word for word in words if word in RUNS), None)
            if behind is None or "--" in words:
                raise
            raise click.UsageError(f"{error.format_message()} Write -- before {behind!r}.", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Launchers"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=Kinds)
def command() -> None:
    """Starts a run whose workers a launcher starts: several processes, torchrun, SLURM or Ray.

    The run, its record and its certificate are as without; a worker that is lost costs what was in flight there.
    'tokenmill run --on KIND:WORKERS' is the short form.

    \b
    Examples:
      tokenmill launch processes --workers 2 -- run prompts.txt --model ./folder
      tokenmill launch torchrun --workers 2 --restarts 5 -- resume last
    """


@click.command()
@taking(WORKERS, TP, TP_ENGINE, SILENT, FORCE)
def processes(arguments: tuple[str, ...], **chosen: Any) -> None:
    """Launches processes of this machine, each bound to its part of the cores.

    With '--strategy auto' the run measures whether they beat one process, and keeps the verdict.

    \b
    Example:
      tokenmill launch processes --workers 2 -- run prompts.txt --model ./folder --strategy auto
    """
    launched(On(kind="processes", **chosen), arguments)


@click.command()
@taking(
    WORKERS,
    TP,
    TP_ENGINE,
    click.option("--restarts", metavar="N", type=click.IntRange(0), help="Restarts of all ranks; default 3."),
    click.option("--agents", metavar="N", type=click.IntRange(0), help="Restarts of torchrun itself; default 2."),
    SILENT,
    FORCE,
)
def torchrun(arguments: tuple[str, ...], restarts: int | None, agents: int | None, **chosen: Any) -> None:
    """Launches ranks of this machine under torchrun, which starts all of them again when one ends.

    \b
    Example:
      tokenmill launch torchrun --workers 2 -- run prompts.txt --model ./folder
    """
    options = {"restarts": restarts, "agents": agents}
    given = {name: str(number) for name, number in options.items() if number is not None}
    launched(On(kind="torchrun", options=given, **chosen), arguments)


def launched(on: On, arguments: Sequence[str]) -> None:
    """Calls the command that stands behind the launcher's options, with `on` among its settings."""
    from tokenmill.cli import COMMANDS as ALL

    name, *rest = arguments or ("",)
    if name not in RUNS:
        given = repr(name) if name else "nothing"
        raise UsageError(
            f"launch {on.kind}: {given} can't be launched; write -- and then {', '.join(RUNS[:-1])} or {RUNS[-1]} "
            "with its arguments"
        )
    behind: click.Command = importlib.import_module(ALL[name][0]).command
    behind.main(args=rest, prog_name=f"tokenmill launch {on.kind} -- {name}", standalone_mode=False, obj=checked(on))

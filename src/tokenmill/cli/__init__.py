"""The door for people: one file per command, each imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches
from pathlib import Path

import click

from tokenmill import __version__
from tokenmill.cli.screen import ReaderGone, drop_stdout, tell
from tokenmill.errors import TokenmillError, UsageError

#: Ended by Ctrl-C where no run was left to go on with: nothing was sent.
INTERRUPTED = 2

#: Command, module, and the line that `--help` shows without importing the module.
COMMANDS = {
    "run": ("tokenmill.cli.run", "Answer every prompt of a file."),
    "resume": ("tokenmill.cli.resume", "Go on with a run that was interrupted."),
    "status": ("tokenmill.cli.status", "Show how far a run is."),
    "retry": ("tokenmill.cli.retry", "Try failed requests of a run again."),
    "export": ("tokenmill.cli.export", "Write the answers of a run to a file."),
    "report": ("tokenmill.cli.report", "Show the certificate of a run."),
    "explain": ("tokenmill.cli.explain", "Tell the whole story of one request."),
    "runs": ("tokenmill.cli.runs", "List or delete runs."),
    "plan": ("tokenmill.cli.plan", "Predict what nodes, devices or a fleet would take."),
    "bench": ("tokenmill.cli.bench", "Measure which way is fastest here, with intervals."),
    "quantize": ("tokenmill.cli.quantize", "Make a model small, into files that engines load."),
    "launch": ("tokenmill.cli.launch", "Start workers elsewhere for a run: processes, torchrun, SLURM, Ray."),
    "recipes": ("tokenmill.cli.recipes", "List or print the recipes for data sets that come along."),
    "nodes": ("tokenmill.cli.nodes", "Keep servers under names; say what they are and share."),
}


class Lazy(click.Group):
    """A group that knows its commands by name and loads one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            self._refuse_unknown(ctx, cmd_name)
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    @staticmethod
    def _refuse_unknown(ctx: click.Context, name: str) -> None:
        """An option that is unknown is click's to refuse; so is anything while a shell completes a line."""
        if name.startswith("-") or ctx.resilient_parsing:
            return
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise click.UsageError(f"no command {name!r}; {hint}known: {', '.join(COMMANDS)}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tokenmill")
def command() -> None:
    """Answers thousands of prompts with language models, and proves how close to the limit it came.

    \b
    Example:
      tokenmill run sentences --model demo -o answers.jsonl
    """


def main() -> None:
    """Runs a command; an error that the user can act on is one line without a traceback."""
    try:
        _check_names(sys.argv)
        command(prog_name="tokenmill", standalone_mode=False)
    except TokenmillError as error:
        tell(f"tokenmill: {error}")
        sys.exit(error.exit_code)
    except ReaderGone:
        drop_stdout()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        tell(_in_one_line(error))
        sys.exit(error.exit_code)
    except click.Abort:
        tell("tokenmill: interrupted")
        sys.exit(INTERRUPTED)


def _check_names(words: list[str]) -> None:
    """Records are UTF-8, so names in them must be too."""
    try:
        place = str(Path.cwd())
    except FileNotFoundError as error:
        raise UsageError("the working folder doesn't exist any more; go to another with cd") from error
    for word in (*words, place):
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{word!a} is not UTF-8; rename it") from error


def _in_one_line(error: click.ClickException) -> str:
    """What was wrong with the command line, and where to look."""
    text = error.format_message().replace("\n", " ").rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context is not None else "tokenmill"
    end = "" if text.endswith("?") else ";"
    return f"{path}: {text[:1].lower()}{text[1:]}{end} see '{path} --help'"

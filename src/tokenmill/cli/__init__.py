"""The door for people: one file per command, each imported only when it is called."""

from __future__ import annotations

import importlib
import sys

import click

from tokenmill import __version__
from tokenmill.errors import TokenmillError

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
}


class Lazy(click.Group):
    """A group that knows its commands by name and loads one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

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
        command(prog_name="tokenmill")
    except TokenmillError as error:
        click.echo(f"tokenmill: {error}", err=True)
        sys.exit(error.exit_code)

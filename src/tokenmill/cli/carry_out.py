"""Carries out a session of a run and says how it ended; `run`, `resume` and `retry` all end here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click
import msgspec

from tokenmill.cli.progress import watcher
from tokenmill.driver.options import Settings
from tokenmill.driver.prepare import RECORD
from tokenmill.driver.session import Outcome, execute
from tokenmill.errors import TokenmillError
from tokenmill.record.store import Record
from tokenmill.report import as_text
from tokenmill.report.certificate import Certificate


def carry_out(folder: Path, settings: Settings | None, *, as_json: bool, quiet: bool) -> None:
    """Runs to the end or a stop, prints certificate and paths, and exits with the run's exit code."""
    record = Record(folder / RECORD)
    counts = record.counts()
    record.close()
    done = counts.rows - counts.unfinished
    watching = watcher(counts.rows, done, quiet=quiet, as_json=as_json)
    try:
        outcome = execute(folder, settings=settings, watcher=watching)
    except TokenmillError as error:
        raise _with_way_back(error, folder) from error
    finally:
        if watching is not None:
            watching.close()
    if as_json:
        click.echo(msgspec.json.encode(_facts(outcome)))
    else:
        _say(outcome, quiet=quiet)
    sys.exit(outcome.exit_code)


def print_certificate(certificate: Certificate, *, definitions: bool = False) -> None:
    """On stdout, as wide as the terminal and in ASCII where its encoding asks for that."""
    width = shutil.get_terminal_size((80, 24)).columns
    plain = not (sys.stdout.encoding or "").lower().startswith("utf")
    for line in as_text.lines(certificate, width, ascii=plain, definitions=definitions):
        click.echo(line)


def _with_way_back(error: TokenmillError, folder: Path) -> TokenmillError:
    """The same error, with the line that resumes where the run can go on."""
    if error.exit_code == 2:
        return error
    return type(error)(f"{error}; go on with: tokenmill resume {folder}")


def _facts(outcome: Outcome) -> dict[str, object]:
    return {
        "run": outcome.manifest.run_id,
        "folder": str(outcome.folder),
        "rows": outcome.counts.rows,
        "answered": outcome.counts.answered,
        "failed": outcome.counts.failed,
        "unfinished": outcome.counts.unfinished,
        "output": str(outcome.output) if outcome.output else None,
        "stopped_by": outcome.stopped_by,
        "certificate": outcome.certificate,
    }


def _say(outcome: Outcome, *, quiet: bool) -> None:
    counts, run_id = outcome.counts, outcome.manifest.run_id
    if not quiet and outcome.certificate is not None:
        print_certificate(outcome.certificate)
    if counts.unfinished:
        reason = f"{outcome.stopped_by}; " if outcome.stopped_by else ""
        left = f"{counts.answered} of {counts.rows} answered, {counts.unfinished} to go"
        click.echo(f"tokenmill: {reason}{left}; go on with: tokenmill resume {_name(outcome)}", err=True)
        return
    if counts.failed:
        kinds = ", ".join(f"{number} {kind}" for kind, number in counts.failed.items())
        click.echo(f"tokenmill: failed: {kinds}; look with: tokenmill export {run_id}, try again with retry", err=True)
    if not quiet:
        click.echo(f"answers: {outcome.output}")
        click.echo(f"run: {run_id}")


def _name(outcome: Outcome) -> str:
    """The run as `resume` finds it: by its folder, which holds wherever the runs are kept."""
    return str(outcome.folder)

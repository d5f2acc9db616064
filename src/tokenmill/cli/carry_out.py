"""Carries out a session of a run and says how it ended; `run`, `resume` and `retry` all end here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tokenmill.cli.progress import watcher
from tokenmill.cli.screen import ReaderGone, drop_stdout, is_plain, line_for, printable, say, say_json, tell
from tokenmill.cli.story_counts import stories_in
from tokenmill.driver.options import Settings
from tokenmill.driver.prepare import RECORD
from tokenmill.driver.session import Outcome, execute, settings_of
from tokenmill.errors import TokenmillError
from tokenmill.record.export import errors_path
from tokenmill.record.folder import read_manifest
from tokenmill.record.store import Record
from tokenmill.report import as_text
from tokenmill.report.certificate import Certificate


class Interrupted(TokenmillError):
    """Ended by Ctrl-C outside of answering; the run can go on."""

    exit_code = 4


def carry_out(folder: Path, settings: Settings | None, *, as_json: bool, quiet: bool, surveyed: bool = False) -> None:
    """Runs to the end or a stop, prints certificate and paths, and exits with the run's exit code.

    `surveyed`: the nodes were asked a moment ago, when the run was prepared.
    """
    try:
        outcome = _execute(folder, settings, as_json=as_json, quiet=quiet, surveyed=surveyed)
    except KeyboardInterrupt as error:  # before the first request or after the last answer; the record is whole
        raise Interrupted(f"interrupted; go on with: {line_for('resume', folder)}") from error
    except TokenmillError as error:
        if error.exit_code == Interrupted.exit_code:
            raise type(error)(f"{error}; go on with: {line_for('resume', folder)}") from error
        raise
    try:
        if as_json:
            say_json(_facts(outcome))
        else:
            _say(outcome, quiet=quiet)
    except ReaderGone:
        drop_stdout()
    sys.exit(outcome.exit_code)


def _execute(folder: Path, settings: Settings | None, *, as_json: bool, quiet: bool, surveyed: bool) -> Outcome:
    settings = settings or settings_of(read_manifest(folder))
    if settings.on is not None and settings.on.kind == "slurm":
        from tokenmill.cli import slurm_job

        if slurm_job.is_for_a_job(settings):
            slurm_job.have_done(folder, settings, as_json=as_json, quiet=quiet)
            surveyed = True  # nothing is left to be sent: the outcome is collected
    record = Record(folder / RECORD)
    counts = record.counts()
    record.close()
    stories = stories_in(folder / RECORD, read_manifest(folder))
    watching = watcher(folder, counts, stories, quiet=quiet, as_json=as_json)
    try:
        return execute(folder, settings=settings, watcher=watching, surveyed=surveyed)
    finally:
        watching.close()


def print_certificate(certificate: Certificate, *, definitions: bool = False) -> None:
    """On stdout, as wide as the terminal and in ASCII where its encoding asks for that."""
    width = shutil.get_terminal_size((80, 24)).columns
    for line in as_text.lines(certificate, width, ascii=is_plain(), definitions=definitions):
        say(printable(line))


def _facts(outcome: Outcome) -> dict[str, object]:
    return {
        "run": outcome.manifest.run_id,
        "folder": str(outcome.folder),
        "rows": outcome.counts.rows,
        "answered": outcome.counts.answered,
        "failed": outcome.counts.failed,
        "unfinished": outcome.counts.unfinished,
        **({"stories": outcome.stories} if outcome.stories else {}),
        "output": str(outcome.output) if outcome.output else None,
        "stopped_by": outcome.stopped_by,
        "notes": outcome.notes,
        "certificate": outcome.certificate,
    }


def _missed(outcome: Outcome) -> Path:
    """The file with the reasons of rows that didn't succeed."""
    from tokenmill.driver.data_form import beside

    assert outcome.output is not None
    return beside(outcome.output, "missed")


def _say(outcome: Outcome, *, quiet: bool) -> None:
    counts, run_id = outcome.counts, outcome.manifest.run_id
    if not quiet and outcome.certificate is not None:
        print_certificate(outcome.certificate)
    if counts.unfinished or outcome.is_open:
        reason = f"{outcome.stopped_by}; " if outcome.stopped_by else ""
        left = f"{counts.answered} of {counts.rows} answered, {counts.unfinished} to go"
        if outcome.manifest.options.get("pipeline"):
            ended = sum(outcome.stories.values())
            left = f"{ended} of {outcome.manifest.rows} rows ended; prompts: {left}"
        tell(f"tokenmill: {reason}{left}; go on with: {line_for('resume', outcome.folder)}")
        return
    if outcome.stories:
        told = ", ".join(f"{number} {how}" for how, number in outcome.stories.items())
        missed = "" if outcome.stories.keys() == {"success"} else f"; why, is in {_missed(outcome)}"
        tell(printable(f"tokenmill: rows by outcome: {told}{missed}"))
    elif counts.failed:
        kinds = ", ".join(f"{number} {kind}" for kind, number in counts.failed.items())
        where = errors_path(outcome.output) if outcome.output is not None else outcome.folder
        tell(f"tokenmill: failed: {kinds}; see {where}; try again with: {line_for('retry', outcome.folder)}")
    if not quiet:
        say(printable(f"{'items' if outcome.stories else 'answers'}: {outcome.output}"))
        say(f"run: {run_id}")

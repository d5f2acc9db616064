"""`tokenmill runs`: the runs there are, and how to be rid of them."""

from __future__ import annotations

from pathlib import Path

import click

from tokenmill.cli.options import AS_JSON, RUNS_DIR
from tokenmill.cli.screen import printable, say, say_json, tell
from tokenmill.cli.story_counts import StoryCounts, is_open, stories_in
from tokenmill.driver.prepare import RECORD
from tokenmill.errors import UsageError
from tokenmill.record.folder import find, list_runs, read_manifest, remove, runs_folder
from tokenmill.record.lock import is_locked
from tokenmill.record.store import Record

UNREADABLE = "unreadable"


@click.group()
def command() -> None:
    """Lists or deletes runs.

    \b
    Example:
      tokenmill runs list
    """


@command.command("list")
@RUNS_DIR
@AS_JSON
def list_command(runs_dir: Path | None, as_json: bool) -> None:
    """Shows all runs, oldest first.

    \b
    Example:
      tokenmill runs list
    """
    found = [_facts(folder) for folder in list_runs(runs_folder(runs_dir))]
    if as_json:
        say_json(found)
        return
    for facts in found:
        say(printable(_line(facts)))
    if not found:
        tell(f"no runs in {runs_folder(runs_dir)}")


def _line(facts: dict[str, object]) -> str:
    start = f"{facts['run']}  {facts['state']:11}"
    if facts["state"] == UNREADABLE:
        return f"{start}  see 'tokenmill status {facts['run']}'"
    prompts = f"{facts['answered']} of {facts['rows']} answered, {facts['failed']} failed"
    if isinstance(stories := facts.get("stories"), StoryCounts):
        prompts = f"{stories.rows} rows: {stories.outcomes}; prompts: {prompts}"
    return f"{start}  {prompts}  {facts['model']}"


@command.command("rm")
@click.argument("runs", nargs=-1, required=True)
@RUNS_DIR
def rm_command(runs: tuple[str, ...], runs_dir: Path | None) -> None:
    """Deletes RUNS with their records and whatever answers lie in their folders.

    \b
    Example:
      tokenmill runs rm 20260101-120000-ab12
    """
    for folder in [find(runs_folder(runs_dir), run) for run in runs]:
        remove(folder)
        tell(f"deleted {folder.name}")


@command.command("purge")
@click.option("--finished", is_flag=True, help="Delete runs in which every row has a final word.")
@click.option("--all", "everything", is_flag=True, help="Delete interrupted runs too.")
@RUNS_DIR
def purge_command(finished: bool, everything: bool, runs_dir: Path | None) -> None:
    """Deletes many runs at once, never one that is running or damaged.

    \b
    Example:
      tokenmill runs purge --finished
    """
    if not (finished or everything):
        raise UsageError("purge needs --finished or --all")
    deleted = {"finished", "interrupted"} if everything else {"finished"}
    for folder in list_runs(runs_folder(runs_dir)):
        if _facts(folder)["state"] in deleted:
            remove(folder)
            tell(f"deleted {folder.name}")


def _facts(folder: Path) -> dict[str, object]:
    """One run in short; of a damaged one no more than its name, so that it doesn't hide the others."""
    try:
        manifest = read_manifest(folder)
        record = Record(folder / RECORD)
    except UsageError:
        unknown = dict.fromkeys(("rows", "answered", "failed", "model", "created"))
        return {"run": folder.name, "state": UNREADABLE, **unknown}
    counts = record.counts()
    state = "running" if is_locked(folder) else "interrupted" if is_open(record, counts, manifest) else "finished"
    record.close()
    stories = stories_in(folder / RECORD, manifest)
    return {
        "run": manifest.run_id,
        "state": state,
        "rows": counts.rows,
        "answered": counts.answered,
        "failed": sum(counts.failed.values()),
        "model": manifest.model,
        "created": manifest.created,
        **({"stories": stories} if stories is not None else {}),
    }

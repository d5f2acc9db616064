"""`tokenmill status`: how far a run is, also while another process works on it."""

from __future__ import annotations

from pathlib import Path

import click

from tokenmill.cli.options import AS_JSON, RUNS_DIR
from tokenmill.cli.screen import line_for, printable, say, say_json
from tokenmill.cli.story_counts import StoryCounts, is_open, stories_in
from tokenmill.driver.prepare import RECORD
from tokenmill.record.folder import find, read_manifest, runs_folder
from tokenmill.record.lock import is_locked
from tokenmill.record.store import Record


@click.command()
@click.argument("run", default="last")
@RUNS_DIR
@AS_JSON
def command(run: str, runs_dir: Path | None, as_json: bool) -> None:
    """Shows how far RUN is: an id, a run folder, or 'last' (default).

    \b
    Example:
      tokenmill status last --json
    """
    folder = find(runs_folder(runs_dir), run)
    manifest = read_manifest(folder)
    record = Record(folder / RECORD)
    counts, sessions = record.counts(), len(record.sessions())
    state = "running" if is_locked(folder) else "interrupted" if is_open(record, counts, manifest) else "finished"
    record.close()
    stories = stories_in(folder / RECORD, manifest)
    facts = {
        "run": manifest.run_id,
        "folder": str(folder),
        "state": state,
        "model": manifest.model,
        **({"stories": stories} if stories is not None else {}),
        "rows": counts.rows,
        "answered": counts.answered,
        "failed": counts.failed,
        "unfinished": counts.unfinished,
        "sessions": sessions,
    }
    if as_json:
        say_json(facts)
        return
    facts["failed"] = ", ".join(f"{number} {kind}" for kind, number in counts.failed.items()) or 0
    if stories is not None:
        facts = _told(facts, stories)
    for name, value in facts.items():
        say(printable(f"{name:12} {value}"))
    if state == "interrupted":
        say(f"go on with: {line_for('resume', folder)}")


def _told(facts: dict[str, object], stories: StoryCounts) -> dict[str, object]:
    """The facts of a run with a recipe for people, to whom rows are those of the input, and the rest are prompts."""
    told: dict[str, object] = {}
    for name, value in facts.items():
        if name == "stories":
            told["rows"] = f"{stories.rows}: {stories.outcomes}"
            told["rounds"] = ", ".join(f"{count} in {turn}" for turn, count in stories.rounds.items()) or "none yet"
        else:
            told["prompts" if name == "rows" else name] = value
    return told

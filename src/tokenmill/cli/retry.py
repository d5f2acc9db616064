"""`tokenmill retry`: take back failures of some classes and try those requests again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tokenmill.cli.carry_out import carry_out
from tokenmill.cli.options import AS_JSON, NODE_OPTIONS, QUIET, RUNS_DIR, SETTING_OPTIONS, Sectioned, given_settings
from tokenmill.driver.prepare import RECORD
from tokenmill.driver.resume import merged_settings
from tokenmill.driver.session import ready
from tokenmill.errors import UsageError
from tokenmill.event import FAILURE_KINDS
from tokenmill.record.folder import find, read_manifest, runs_folder
from tokenmill.record.lock import RunLock
from tokenmill.record.store import Record


@click.command(cls=Sectioned)
@click.argument("run")
@click.option("--class", "kinds", multiple=True, help=f"A failure class ({', '.join(FAILURE_KINDS)}); default all.")
@NODE_OPTIONS
@SETTING_OPTIONS
@RUNS_DIR
@AS_JSON
@QUIET
def command(run: str, kinds: tuple[str, ...], runs_dir: Path | None, as_json: bool, quiet: bool, **chosen: Any) -> None:
    """Tries the failed requests of RUN again; answers that were recorded stay as they are.

    \b
    Example:
      tokenmill retry last --class transient --class crash
    """
    for kind in kinds:
        if kind not in FAILURE_KINDS:
            raise UsageError(f"--class {kind}: no such failure class; known: {', '.join(FAILURE_KINDS)}")
    folder = find(runs_folder(runs_dir), run)
    manifest = read_manifest(folder)
    if manifest.options.get("pipeline"):
        raise UsageError(
            f"run {manifest.run_id}: failures are part of its stories, which have gone on without them; start a new "
            "run of the rows that were missed"
        )
    settings = merged_settings(manifest, given_settings(chosen))
    ready(folder, manifest, settings)
    lock = RunLock(folder)
    record = Record(folder / RECORD)
    try:
        taken = record.retry(kinds or FAILURE_KINDS)
    finally:
        record.close()
        lock.release()
    if not taken:
        sought = " or ".join(kinds) or "any class"
        raise UsageError(f"run {manifest.run_id}: no failed requests of {sought}; see 'tokenmill status {run}'")
    carry_out(folder, settings, as_json=as_json, quiet=quiet)

"""`tokenmill resume`: go on where a run was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tokenmill.cli.carry_out import carry_out
from tokenmill.cli.options import (
    ANSWER_OPTIONS,
    AS_JSON,
    NODE_OPTIONS,
    QUIET,
    RUNS_DIR,
    SETTING_OPTIONS,
    Sectioned,
    given_settings,
    parse_policies,
)
from tokenmill.driver.resume import check_same, merged_settings
from tokenmill.record.folder import find, read_manifest, runs_folder


@click.command(cls=Sectioned)
@click.argument("run")
@NODE_OPTIONS
@ANSWER_OPTIONS
@SETTING_OPTIONS
@RUNS_DIR
@AS_JSON
@QUIET
def command(run: str, runs_dir: Path | None, as_json: bool, quiet: bool, **chosen: Any) -> None:
    """Goes on with RUN: an id, a run folder, or 'last'. Answers that were recorded are not asked for again.

    Settings such as --slots may change, and so may the nodes, if they hold the same model; anything that shapes the
    answers may not.

    \b
    Example:
      tokenmill resume last
    """
    folder = find(runs_folder(runs_dir), run)
    manifest = read_manifest(folder)
    check_same(manifest, chosen, parse_policies(chosen["odd"]))
    carry_out(folder, merged_settings(manifest, given_settings(chosen)), as_json=as_json, quiet=quiet)

"""`tokenmill report`: the certificate of a run."""

from __future__ import annotations

from pathlib import Path

import click

from tokenmill.cli.carry_out import print_certificate
from tokenmill.cli.options import AS_JSON, RUNS_DIR
from tokenmill.cli.screen import say_encoded
from tokenmill.driver.meaning import certificate_of
from tokenmill.driver.prepare import RECORD
from tokenmill.driver.session import settings_of
from tokenmill.errors import UsageError
from tokenmill.record.folder import find, read_manifest, runs_folder
from tokenmill.record.store import Record
from tokenmill.report import as_json as json_report


@click.command()
@click.argument("run", default="last")
@RUNS_DIR
@AS_JSON
def command(run: str, runs_dir: Path | None, as_json: bool) -> None:
    """Shows how close RUN came to the bound and where the missing seconds went, with every definition.

    \b
    Example:
      tokenmill report last
    """
    folder = find(runs_folder(runs_dir), run)
    record = Record(folder / RECORD)
    try:
        if not record.sessions():
            raise UsageError(f"run {folder.name} never began; start it with: tokenmill resume {folder.name}")
        certificate = certificate_of(record, folder.parent, settings_of(read_manifest(folder)))
    finally:
        record.close()
    if as_json:
        say_encoded(json_report.encode(certificate))
    else:
        print_certificate(certificate, definitions=True)

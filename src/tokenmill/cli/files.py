"""Files that a report leaves: whole or not at all, and named when they are there."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterable
from pathlib import Path

from tokenmill.cli.screen import printable, tell
from tokenmill.errors import UsageError
from tokenmill.record.atomic import whole_file
from tokenmill.report.plots import Chart


def write(path: Path, content: bytes) -> None:
    """Raises `UsageError` if it can't be written."""
    try:
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise UsageError(f"{path}: can't be written ({error.strerror or error}); name another file") from error
    tell(printable(f"written: {path}"))


def write_charts(folder: Path, charts: Iterable[Chart]) -> None:
    """Each as PNG and SVG; raises `UsageError` if the folder can't be made."""
    from tokenmill.report import as_files

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: can't be made ({error.strerror}); name another folder") from error
    for name, content in as_files.files(charts):
        write(folder / name, content)


def open_page(path: Path) -> None:
    """Shows a page in a browser, or says where it is if there is none."""
    if not webbrowser.open(path.absolute().as_uri()):
        tell(printable(f"no browser was found; open {path.absolute()}"))

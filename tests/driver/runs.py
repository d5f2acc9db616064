"""Shared by the tests of the driver: small runs on the scripted engine in a temporary folder."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import tokenmill


def script(folder: Path, text: str) -> str:
    """A scripted node that behaves as `text`, a TOML script, says."""
    path = folder / "script.toml"
    path.write_text(text, encoding="utf-8")
    return f"scripted:{path}"


def run(folder: Path, rows: Any, node: str = "scripted:", **options: Any) -> tokenmill.Answers:
    """A run whose record lies under `folder`."""
    return tokenmill.run(rows, nodes=[node], runs_dir=folder / "runs", durability="process", **options)


def attempts(answers: tokenmill.Answers) -> list[tuple[Any, ...]]:
    """(row, lease, outcome, kind) of every attempt, in order of dispatch."""
    connection = sqlite3.connect(answers.folder / "record.db")
    try:
        return list(connection.execute("SELECT row, lease, outcome, coalesce(kind, '') FROM attempt ORDER BY id"))
    finally:
        connection.close()

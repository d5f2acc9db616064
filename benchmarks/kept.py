"""Finished pieces of a long measurement, kept in a file, so that one that was interrupted goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import platformdirs

import tokenmill


def kept_file(name: str, sources: Iterable[Path], folder: Path | None = None) -> Path:
    """A file that belongs to one state of the program and of `sources`; in the user's cache folder if not in another.

    What was measured on another state is thereby measured again.
    """
    digest = hashlib.sha256()
    for path in (*sorted(sources), *sorted(Path(tokenmill.__file__).parent.rglob("*.py"))):
        digest.update(path.read_bytes())
    folder = folder or platformdirs.user_cache_path("tokenmill") / "benchmarks"
    return folder / f"{name}-{digest.hexdigest()[:12]}.jsonl"


def read_kept(path: Path) -> list[Any]:
    """All finished pieces; a last line that an interruption cut off is taken out of the file."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    path.write_text(whole + "\n" if whole else "", encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def keep(path: Path, piece: object) -> None:
    """Adds a finished piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(piece) + "\n")

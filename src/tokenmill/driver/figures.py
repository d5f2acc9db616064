"""The figures of nodes, kept beside the runs by `nodes check` for `plan`, which asks no node anything."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from tokenmill.errors import UsageError
from tokenmill.plan.figures import Figure
from tokenmill.record.atomic import whole_file

FIGURES = "figures.json"


def read_figures(runs: Path) -> tuple[Figure, ...]:
    path = runs / FIGURES
    if not path.exists():
        return ()
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Figure, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: unreadable ({error}); delete it, 'tokenmill nodes check' measures again") from error
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror}); make it readable or delete it") from error


def keep_figures(runs: Path, new: Iterable[Figure]) -> None:
    """Puts new figures in the place of older ones of the same address and model."""
    new = tuple(new)
    if not new:
        return
    best = {figure.key: figure for figure in (*read_figures(runs), *new)}
    runs.mkdir(parents=True, exist_ok=True)
    with whole_file(runs / FIGURES) as file:
        file.write(msgspec.json.format(msgspec.json.encode(tuple(best.values())), indent=1) + b"\n")

"""What an input was when it was scanned, and whether its files still are that."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

from msgspec import Struct

from tokenmill.errors import UsageError

_BLOCK = 1 << 20


class FileState(Struct, frozen=True, kw_only=True):
    """A file as it was read: `size` in bytes, `sha256` in hex over all of it."""

    path: str
    size: int
    mtime_ns: int
    sha256: str


class Input(Struct, frozen=True, kw_only=True):
    """A scanned input; with its spec, all that a `Reader` needs, also in a later process.

    `source` is the file the user named (None for standard input, built-ins and Python rows), `data` the one that
    rows are read from: the same file, or the spool. `kind` says how its rows look, `unit` what rows are counted in
    (`line` or `row`), `models` are the first few model names that rows ask for, `endpoint` is what all rows ask for.
    `skipped` counts dialogs whose answers are too short to be rows.
    """

    kind: str
    unit: str
    source: FileState | None
    data: FileState
    rows: int
    models: tuple[str, ...] = ()
    endpoint: Literal["chat", "completions"] = "chat"
    skipped: int = 0

    @property
    def sha256(self) -> str:
        """Identifies the content the user gave."""
        return (self.source or self.data).sha256


class InputChanged(UsageError):
    """The input is no longer what the run was started with."""


def state_of(path: Path) -> FileState:
    """Reads the whole file once to learn its state."""
    with path.open("rb") as file:
        about = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileState(path=str(path), size=about.st_size, mtime_ns=about.st_mtime_ns, sha256=digest)


def check_unchanged(state: FileState) -> None:
    """Raises `InputChanged` unless the file still has the content it had.

    Equal size and time of change are taken for equal content; otherwise the file is hashed.
    """
    path, about = Path(state.path), _stat(state)
    if (about.st_size, about.st_mtime_ns) == (state.size, state.mtime_ns):
        return
    if about.st_size != state.size:
        what = f"it has {about.st_size} bytes and had {state.size}"
    elif _prefix(path, state.size) != state.sha256:
        what = "its content differs at the same size"
    else:
        return
    raise InputChanged(f"{path} changed since the run began: {what}; put the old file back or start a new run")


def check_grown(state: FileState) -> None:
    """Raises `InputChanged` unless the old content, in whole lines, is the beginning of the file."""
    path, about = Path(state.path), _stat(state)
    if about.st_size < state.size or _prefix(path, state.size) != state.sha256:
        raise InputChanged(f"{path} does not begin with the {state.size} bytes of the run; only append to extend a run")
    if about.st_size == state.size:
        return
    with path.open("rb") as file:
        file.seek(max(0, state.size - 1))
        around = file.read(3 if state.size else 0)
    ended = around[:1] == b"\n" or around[1:2] == b"\n" or around[1:3] == b"\r\n"
    if state.size and not ended:
        raise InputChanged(f"{path}: text was added to the last line of the run; put it on a line of its own")


def _stat(state: FileState) -> os.stat_result:
    try:
        return Path(state.path).stat()
    except OSError as error:
        raise InputChanged(f"{state.path} can't be read any more ({error.strerror}); put it back") from error


def _prefix(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while size > 0 and (block := file.read(min(size, _BLOCK))):
                digest.update(block)
                size -= len(block)
    except OSError as error:
        raise InputChanged(f"{path} can't be read any more ({error.strerror}); put it back") from error
    return digest.hexdigest()

"""Files that appear whole or not at all: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tokenmill.record.lock import is_alive
from tokenmill.record.place import shared_kind


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file for writing that takes the name `path` only if the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    _sweep(path)
    try:
        with temporary.open("wb", buffering=1 << 18) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _sweep(path: Path) -> None:
    """Removes what processes left that died while they wrote this file.

    Where other hosts may write, a number says nothing of whether its process is alive, and what is left stays.
    """
    if shared_kind(path.parent):
        return
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        pid = left.name.split(".")[-2]
        if pid.isdigit() and not is_alive(int(pid)):
            left.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Makes a folder with its parents, readable for the owner alone; the new names survive power loss."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes names created or renamed in `folder` survive power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

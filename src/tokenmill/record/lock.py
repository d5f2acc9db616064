"""One process on a run at a time, and a clear word on who it is.

The lock is the kernel's (`flock`), so it ends with its owner however that dies; the text in the file only serves the
message. The file is never removed: a name that goes away could be locked twice.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from tokenmill.errors import UsageError


class RunLock:
    """Held from construction until `release`."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._descriptor, 200, 0).decode("utf-8", "replace").strip() or "another process"
            os.close(self._descriptor)
            raise UsageError(f"{folder}: in use by {owner}; wait for it, or stop it with Ctrl-C first") from error
        text = f"process {os.getpid()}, started {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)

    def release(self) -> None:
        os.close(self._descriptor)


def is_locked(folder: Path) -> bool:
    """Whether some process works on this run now."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False

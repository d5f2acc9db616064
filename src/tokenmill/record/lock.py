"""One process on a run at a time, and a clear word on who it is.

The lock is the kernel's (`flock`), so it ends with its owner however that dies; the text in the file only serves the
message. The file is never removed: a name that goes away could be locked twice.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from tokenmill.errors import UsageError

#: Tries to take the lock, and seconds between them: `is_locked` holds it for an instant, which is no owner.
TRIES = 20
#: Further looks at the file until an owner that has just taken the lock has put its name there.
LOOKS = 30
LOOK_EVERY = 0.01


class RunLock:
    """Held from construction until `release`."""

    def __init__(self, folder: Path) -> None:
        try:
            self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"{folder}: can't be locked ({error.strerror}); check its owner and free space") from error
        if not _take(self._descriptor):
            owner = _owner(self._descriptor)
            os.close(self._descriptor)
            raise UsageError(f"{folder}: in use by {owner}; wait for it, or stop it with Ctrl-C first")
        text = f"process {os.getpid()}, started {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode()
        with suppress(OSError):  # on a full disk the lock holds as well without a name in it
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text, 0)

    def release(self) -> None:
        os.close(self._descriptor)


def _take(descriptor: int) -> bool:
    for _ in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(LOOK_EVERY)
        else:
            return True
    return False


def _owner(descriptor: int) -> str:
    """Who holds the lock; waits a moment for one that has taken it but not put its name over an older one yet."""
    for _ in range(LOOKS):
        text = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
        found = re.match(r"process (\d+), started .*\d$", text)
        if found and is_alive(int(found[1])):
            return text
        time.sleep(LOOK_EVERY)
    return "another process"


def is_alive(pid: int) -> bool:
    """Whether a process with this number exists on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is somebody else's
    return True


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

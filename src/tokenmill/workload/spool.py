"""Rows without byte offsets of their own, written into the run folder so that they have some."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tokenmill.errors import UsageError
from tokenmill.workload.input import FileState


class Spool:
    """A file that appears under its name only when it is whole; bytes are hashed as they are written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._partial = path.with_name(f"{path.name}.partial")
        self._digest = hashlib.sha256()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(path, error) from error
        self._file = os.fdopen(descriptor, "w+b", buffering=1 << 20)

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._digest.update(data)
        self.size += len(data)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes written before."""
        try:
            self._file.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return os.pread(self._file.fileno(), length, offset)

    def finish(self) -> FileState:
        """Puts the whole file in place so that it survives a power loss."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            about = os.fstat(self._file.fileno())
            self._partial.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        path = str(self.path.absolute())
        return FileState(path=path, size=self.size, mtime_ns=about.st_mtime_ns, sha256=self._digest.hexdigest())

    def close(self) -> None:
        """Removes what is not finished; safe to call twice."""
        try:
            self._file.close()
        except OSError as error:
            raise _unwritable(self.path, error) from error
        finally:
            self._partial.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} can't be written ({error.strerror}); free space or choose another --runs-dir")

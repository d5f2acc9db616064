"""Which chunks of an output are done, on disk beside the output, so that an interrupted run goes on where it was.

The file has a line with a checksum, a line of JSON that says what is made of what, and then a bit for each chunk. A
bit is set only once its chunk's bytes are safe on disk; bits are never cleared, so a write that a power cut tears
leaves a journal that is true, only older. With `figures`, so many numbers a chunk stand behind the bits; they are safe
before the bit is.

The journal is also the lock: who holds it works on this output, and the kernel lets go of it however that ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from tokenmill.errors import UsageError
from tokenmill.quant.files import sync_folder, write_fault

_MAGIC = b"tokenmill quantize 1 "
#: Largest description that is read back, bytes.
_LIMIT = 64 << 20


class Identity(Struct, frozen=True, kw_only=True):
    """What an output is made of and how; only a run with the same may go on with it.

    `version`: of this program. `inputs`: for each file its name, size, time of change in nanoseconds and a digest of
    the bytes before its first tensor. `options`: what was asked for. `layout`: a digest of where everything goes.
    """

    version: str
    inputs: tuple[tuple[str, int, int, str], ...]
    options: str
    layout: str


class Journal:
    """The journal at `path`, locked from `open` to `close`; `done` has a byte for each chunk, 1 where it is done."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.done = np.zeros(0, np.uint8)
        self.figures = np.zeros((0, 0), np.float64)
        self._start = 0

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Takes the lock; raises `UsageError` if another process has it."""
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise UsageError(f"{path}: can't be written ({error.strerror}); name another output") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                raise UsageError(
                    f"{path}: another process is writing this output; wait for it, or name another output"
                ) from error
            if _is_at(path, descriptor):
                return cls(path, descriptor)
            os.close(descriptor)  # its owner finished and removed it between the two calls

    def read(self) -> Identity | None:
        """What the output was begun with; None if it was never begun or that can't be told."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            first = file.readline(200)
            line = file.readline(_LIMIT)
        if first != _first_line(line):
            return None
        try:
            return msgspec.json.decode(line, type=Identity)
        except msgspec.DecodeError:
            return None

    def begin(self, identity: Identity, chunks: int, figures: int = 0) -> None:
        """Starts anew: nothing is done. The space is taken now, so that a full disk can still be noted."""
        line = msgspec.json.encode(identity) + b"\n"
        text = _first_line(line) + line
        self._size_up(len(text), chunks, figures)
        try:
            os.ftruncate(self._descriptor, 0)
            _write(self._descriptor, text + bytes(-(-chunks // 8) + self.figures.nbytes), 0)
            os.fsync(self._descriptor)
            sync_folder(self.path.absolute().parent)
        except OSError as error:
            raise write_fault(self.path, error) from error

    def go_on(self, identity: Identity, chunks: int, figures: int = 0) -> None:
        """Takes up what `read` gave `identity` for."""
        line = msgspec.json.encode(identity) + b"\n"
        self._size_up(len(_first_line(line)) + len(line), chunks, figures)
        size = -(-chunks // 8)
        bits = np.frombuffer(os.pread(self._descriptor, size, self._start), np.uint8)
        self.done[: 8 * len(bits)] = np.unpackbits(bits)[:chunks]
        if figures:
            stored = np.frombuffer(os.pread(self._descriptor, self.figures.nbytes, self._start + size), np.float64)
            self.figures.reshape(-1)[: len(stored)] = stored

    def mark(self, done: NDArray[np.uint8]) -> None:
        """Sets the bits of `done`, a snapshot of chunks whose bytes are on disk."""
        size = -(-len(done) // 8)
        try:
            if self.figures.nbytes:
                _write(self._descriptor, self.figures.tobytes(), self._start + size)
                os.fsync(self._descriptor)
            _write(self._descriptor, np.packbits(done).tobytes(), self._start)
            os.fsync(self._descriptor)
        except OSError as error:
            raise write_fault(self.path, error) from error

    def remove(self) -> None:
        """Takes the journal away, once its output is whole or worthless."""
        with suppress(FileNotFoundError):
            self.path.unlink()

    def close(self) -> None:
        """Lets go of the lock."""
        os.close(self._descriptor)

    def _size_up(self, start: int, chunks: int, figures: int) -> None:
        self._start = start
        self.done = np.zeros(chunks, np.uint8)
        self.figures = np.zeros((chunks, figures), np.float64)


def _first_line(line: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(line).hexdigest().encode() + b"\n"


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the file that is open still has this name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _write(descriptor: int, content: bytes, offset: int) -> None:
    done = 0
    while done < len(content):
        done += os.pwrite(descriptor, content[done:], offset + done)

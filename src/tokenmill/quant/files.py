"""The open files of a quantization: inputs that are read and outputs that are written at positions, by all threads.

Errors of the disk become ours here, with the file and the way out.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from tokenmill.errors import TokenmillError
from tokenmill.model.files import BadModel
from tokenmill.quant.chunks import Chunk
from tokenmill.quant.encoding import Bytes
from tokenmill.quant.rows import Shrunk, read_rows
from tokenmill.quant.tensor import Weights


class DiskFault(TokenmillError):
    """A file can't be read or written right now; what was written is kept, and a further run goes on with it."""

    exit_code = 4


class Files:
    """Inputs and outputs, opened together and closed together; `forget` drops what was read from the page cache."""

    def __init__(self, inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, forget: bool = False) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._forget = forget and hasattr(os, "posix_fadvise")
        self._read: list[int] = []
        self._written: list[int] = []
        try:
            self._read += (_open(path, os.O_RDONLY) for path in inputs)
            self._written += (_open(path, os.O_WRONLY) for path in outputs)
        except BaseException:
            self.close()
            raise

    def read(self, chunk: Chunk, into: Bytes, spare: Bytes) -> None:
        """Reads the input of a chunk."""
        tensor = chunk.part.placed.tensor
        path = self.inputs[tensor.file]
        try:
            read_rows(self._read[tensor.file], chunk, into, spare)
        except Shrunk as error:
            raise DiskFault(
                f"{path}: the file ends within tensor {tensor.name!r}; it became shorter since this began, put the "
                "whole file back"
            ) from error
        except OSError as error:
            raise DiskFault(f"{path}: tensor {tensor.name!r} can't be read ({error.strerror})") from error
        if self._forget and chunk.part.placed.arrangement.kind == "plain":
            offset = tensor.offset + chunk.begin * chunk.part.row_size
            os.posix_fadvise(self._read[tensor.file], offset, chunk.input_size, os.POSIX_FADV_DONTNEED)

    def write(self, chunk: Chunk, outputs: tuple[Bytes, ...]) -> None:
        """Writes the outputs of a chunk."""
        part = chunk.part
        for place, size, content in zip(part.placed.places, part.row_sizes, outputs, strict=True):
            self.put(place.file, place.offset + chunk.begin * size, content.data)

    def put(self, file: int, offset: int, content: bytes | memoryview) -> None:
        """Writes bytes at an offset of an output."""
        view = memoryview(content)
        try:
            while len(view):
                got = os.pwrite(self._written[file], view, offset)
                view, offset = view[got:], offset + got
        except OSError as error:
            raise write_fault(self.outputs[file], error) from error

    def sync(self) -> None:
        """Returns once everything written so far is on disk."""
        for path, descriptor in zip(self.outputs, self._written, strict=True):
            try:
                os.fsync(descriptor)
            except OSError as error:
                raise write_fault(path, error) from error

    def close(self) -> None:
        for descriptor in (*self._read, *self._written):
            with suppress(OSError):  # fsync has told of every error that matters
                os.close(descriptor)
        self._read, self._written = [], []


def check_unchanged(weights: Weights, stats: tuple[os.stat_result, ...]) -> None:
    """Raises `BadModel` if an input isn't the file it was when it was opened."""
    for path, before in zip(weights.files, stats, strict=True):
        now = path.stat() if path.exists() else None
        if now is None or (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise BadModel(f"{path} changed while it was read; run the same again once nobody writes to it")


def sync_folder(folder: Path) -> None:
    """Makes names in `folder` survive power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_fault(path: Path, error: OSError) -> DiskFault:
    """What to tell of an output that can't be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFault(f"{path}: the disk is full; make room")
    return DiskFault(f"{path}: can't be written ({error.strerror})")


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise BadModel(f"{path}: can't be opened ({error.strerror})") from error

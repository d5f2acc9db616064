"""The lines of an input as bytes, each with its place, hashed as they pass.

Lines end with LF or CRLF; the last one needs no end. Blank lines are no rows. A byte order mark is not part of the
first line.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tokenmill.workload.faults import refuse
from tokenmill.workload.spool import Spool

#: Longest line, bytes; a longer one is a fault and never held in memory.
MAX_LINE = 16 * 1024 * 1024
BUFFER = 1 << 20

BOM = b"\xef\xbb\xbf"
_FOREIGN = (
    (b"\xff\xfe\x00\x00", "UTF-32 text (byte order mark); convert with iconv -f UTF-32 -t UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32 text (byte order mark); convert with iconv -f UTF-32 -t UTF-8"),
    (b"\xff\xfe", "UTF-16 text (byte order mark); convert with iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16 text (byte order mark); convert with iconv -f UTF-16 -t UTF-8"),
    (b"\x1f\x8b", "gzip-compressed; unpack it with gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed; unpack it with unzstd"),
    (b"PK\x03\x04", "a ZIP archive or spreadsheet; save it as CSV"),
)
PARQUET = b"PAR1"
#: An object, or a list of objects; prompts may begin with a bracket of another kind, such as [INST].
_JSON = re.compile(rb'(\[?)\s*\{\s*["}]')

#: Line number from 1, offset, bytes without the line's end; None for a line over the cap.
Line = tuple[int, int, bytes | None]


class Lines:
    """Reads lines from a binary stream; `sha256` and `size` describe all bytes read so far, marks included.

    Nothing is read beyond `end` bytes, or a file that grows all the time would never end.
    """

    def __init__(self, source: str, file: BinaryIO, *, end: int | None = None, copy: Spool | None = None) -> None:
        self.source = source
        self._file = file
        self._end = end
        self._copy = copy
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[Line]:
        """Lines that are not blank, without their ends."""
        for number, offset, data in self.whole():
            if data is None:
                yield number, offset, None
                continue
            text = data[:-2] if data.endswith(b"\r\n") else data[:-1] if data.endswith(b"\n") else data
            if text and not text.isspace():
                yield number, offset, text

    def whole(self) -> Iterator[Line]:
        """Every line with its end. Raises `InputFaults` for bytes that are no UTF-8 text at all."""
        number = 0
        while data := self._read(MAX_LINE + 2):
            offset, number = self.size, number + 1
            self._take(data)
            if number == 1:
                self._check_head(data)
                if data.startswith(BOM):
                    data, offset = data[len(BOM) :], len(BOM)
            if len(data) > MAX_LINE and len(data.removesuffix(b"\n").removesuffix(b"\r")) > MAX_LINE:
                self._skip(data)
                yield number, offset, None
            else:
                yield number, offset, data

    def blocks(self) -> Iterator[bytes]:
        """All bytes, without a mark at the beginning. Raises `InputFaults` for those that are no UTF-8 text at all."""
        while data := self._read(BUFFER, whole=False):
            if self.size == 0:
                self._check_head(data)
            self._take(data)
            yield data.removeprefix(BOM) if self.size == len(data) else data

    def drain(self) -> None:
        """Reads to the end, so that the hash covers the whole file."""
        while data := self._read(BUFFER):
            self._take(data)

    def _read(self, most: int, *, whole: bool = True) -> bytes:
        """The next bytes, at most so many; a `whole` line if that is not longer."""
        read = self._file.readline if whole else self._file.read
        try:
            return read(most if self._end is None else min(most, self._end - self.size))
        except OSError as error:
            raise refuse(self.source, f"can't be read ({error.strerror}); check the disk and try again") from error

    def _take(self, data: bytes) -> None:
        self._digest.update(data)
        self.size += len(data)
        if self._copy is not None:
            self._copy.write(data)

    def _skip(self, data: bytes) -> None:
        while data and not data.endswith(b"\n"):
            data = self._read(BUFFER)
            self._take(data)

    def _check_head(self, data: bytes) -> None:
        for mark, name in _FOREIGN:
            if data.startswith(mark):
                raise refuse(self.source, f"this is {name}")


def open_input(source: str) -> BinaryIO:
    """Opens a regular file; raises `InputFaults` that say why it can't be read."""
    path = Path(source)
    try:
        mode = path.stat().st_mode  # before opening, which would wait for ever on a pipe
        if stat.S_ISDIR(mode):
            raise refuse(source, "is a folder; name one file")
        if not stat.S_ISREG(mode):
            raise refuse(source, "is not a regular file; pipe it and use - as input")
        return path.open("rb", buffering=BUFFER)
    except FileNotFoundError as error:
        raise refuse(
            source, "no such file; check the path; built in: sentences, sentences-15, texts, synthetic:..."
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise refuse(source, f"can't be read ({reason}); check the path and its permissions") from error


def sniff(head: bytes) -> str:
    """The format that the first bytes of an input show: parquet, json (a list), jsonl or txt."""
    if head.startswith(PARQUET):
        return "parquet"
    text = head.removeprefix(BOM).lstrip()
    found = _JSON.match(text)
    return "txt" if found is None else "json" if found[1] else "jsonl"

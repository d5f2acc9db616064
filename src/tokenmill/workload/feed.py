"""One input as a stream of pieces: where each row lies, its bytes, or the fault that kept it from having any."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from tokenmill.errors import UsageError
from tokenmill.workload import builtin
from tokenmill.workload.faults import RowFault, refuse
from tokenmill.workload.input import FileState, state_of
from tokenmill.workload.lines import MAX_LINE, PARQUET, Lines, open_input, sniff
from tokenmill.workload.spec import ROWS, STDIN, Spec, named_format
from tokenmill.workload.spool import Spool
from tokenmill.workload.tables import Record, csv_records, parquet_records, python_records

#: Line or row number from 1, offset in the data file, bytes of the row, fault.
Piece = tuple[int, int, bytes, str | None]
#: State of the file the user named, if any, and of the file that rows are read from.
States = tuple[FileState | None, FileState]

_HEAD = 4096
_TOO_LONG = f"is longer than {MAX_LINE} bytes; split it, or check that the file has line ends"


class Feed(Protocol):
    """Pieces of one input. `kind` and `unit` are those of `Input`."""

    kind: str
    unit: str

    def __iter__(self) -> Iterator[Piece]: ...
    def read(self, offset: int, length: int) -> bytes: ...
    def finish(self) -> States:
        """Reads what is left of a named file and returns the states; called once, after the last piece."""
        ...

    def close(self) -> None: ...


def open_feed(spec: Spec, spool: Path, rows: Iterable[object] | None, stdin: io.BufferedReader | None) -> Feed:
    """The feed for a settled spec; raises `TokenmillError` if the input can't be opened."""
    if (spec.source == ROWS) != (rows is not None):
        raise UsageError(f"rows handed over in Python go with source {ROWS!r} and no other")
    if rows is not None:
        return SpooledFeed("jsonl", "row", python_records(rows), Spool(spool / "input.jsonl"))
    if builtin.is_builtin(spec.source):
        records = python_records(builtin.builtin_rows(spec.source))
        return SpooledFeed("jsonl", "row", records, Spool(spool / "input.jsonl"))
    if spec.source == STDIN:
        return _open_stdin(spec, spool, stdin or _own_stdin())
    return _open_file(spec, spool)


class PlainFeed:
    """Lines read in place."""

    unit = "line"

    def __init__(self, kind: str, source: str, file: BinaryIO) -> None:
        self.kind = kind
        self._source = source
        self._file = file
        self._before = os.fstat(file.fileno())
        self._lines = Lines(source, file, end=self._before.st_size)

    def __iter__(self) -> Iterator[Piece]:
        return _pieces(self._lines)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, offset)

    def finish(self) -> States:
        state = _finished(self._source, self._file, self._lines, self._before)
        return state, state

    def close(self) -> None:
        self._file.close()


class CopiedFeed:
    """Lines of a stream, copied byte for byte into the spool. What follows the last row used is not read."""

    unit = "line"

    def __init__(self, kind: str, source: str, file: BinaryIO, spool: Spool) -> None:
        self.kind = kind
        self._spool = spool
        self._lines = Lines(source, file, copy=spool)

    def __iter__(self) -> Iterator[Piece]:
        return _pieces(self._lines)

    def read(self, offset: int, length: int) -> bytes:
        return self._spool.read(offset, length)

    def finish(self) -> States:
        return None, self._spool.finish()

    def close(self) -> None:
        self._spool.close()


class SpooledFeed:
    """Records written as JSONL into the spool; `state` tells the state of the named file once it has been read."""

    def __init__(
        self,
        kind: str,
        unit: str,
        records: Iterator[Record],
        spool: Spool,
        state: Callable[[], FileState] | None = None,
        file: BinaryIO | None = None,
    ) -> None:
        self.kind = kind
        self.unit = unit
        self._records = records
        self._spool = spool
        self._state = state
        self._file = file

    def __iter__(self) -> Iterator[Piece]:
        spool = self._spool
        for number, data in self._records:
            offset = spool.size
            if isinstance(data, RowFault):
                yield number, offset, b"", str(data)
                continue
            spool.write(data + b"\n")
            yield number, offset, data, None

    def read(self, offset: int, length: int) -> bytes:
        return self._spool.read(offset, length)

    def finish(self) -> States:
        return self._state() if self._state else None, self._spool.finish()

    def close(self) -> None:
        self._spool.close()
        if self._file is not None:
            self._file.close()


def _pieces(lines: Lines) -> Iterator[Piece]:
    for number, offset, data in lines:
        if data is None:
            yield number, offset, b"", _TOO_LONG
        else:
            yield number, offset, data, None


def _finished(source: str, file: BinaryIO, lines: Lines, before: os.stat_result) -> FileState:
    lines.drain()
    now = os.fstat(file.fileno())
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or now.st_size != lines.size:
        raise refuse(source, "was written to while it was read; wait until it is complete")
    path = str(Path(source).absolute())
    return FileState(path=path, size=lines.size, mtime_ns=now.st_mtime_ns, sha256=lines.sha256)


def _open_file(spec: Spec, spool: Path) -> Feed:
    with ExitStack() as opened:
        file = opened.enter_context(open_input(spec.source))
        feed = _file_feed(spec, file, spool)
        opened.pop_all()
        return feed


def _file_feed(spec: Spec, file: BinaryIO, spool: Path) -> Feed:
    head = file.read(_HEAD)
    file.seek(0)
    kind = named_format(spec) or sniff(head)
    if kind == "parquet":
        return _parquet_feed(spec.source, file, spool)
    if head.startswith(PARQUET):
        raise refuse(spec.source, "this is a Parquet file; give it the suffix .parquet or --format parquet")
    if kind != "csv":
        return PlainFeed(kind, spec.source, file)
    before = os.fstat(file.fileno())
    lines = Lines(spec.source, file, end=before.st_size)
    records = csv_records(lines, tab=spec.source.lower().endswith(".tsv"))
    state = partial(_finished, spec.source, file, lines, before)
    return SpooledFeed("table", "line", records, Spool(spool / "input.jsonl"), state, file)


def _parquet_feed(source: str, file: BinaryIO, spool: Path) -> Feed:
    records = parquet_records(source, file)
    return SpooledFeed(
        "table", "row", records, Spool(spool / "input.jsonl"), partial(state_of, Path(source).absolute()), file
    )


def _own_stdin() -> io.BufferedReader | None:
    buffer = getattr(sys.stdin, "buffer", None)  # None when closed, without buffer when replaced
    return buffer if isinstance(buffer, io.BufferedReader) else None


def _open_stdin(spec: Spec, spool: Path, stdin: io.BufferedReader | None) -> Feed:
    if stdin is None:
        raise refuse("standard input", "is closed; name a file or pipe rows in")
    try:
        head = stdin.peek(_HEAD)
    except OSError as error:
        raise refuse("standard input", f"can't be read ({error.strerror}); name a file or pipe rows in") from error
    kind = spec.format or sniff(head)
    if kind == "parquet":
        raise refuse("standard input", "Parquet can't be piped in; name the file")
    if kind == "csv":
        records = csv_records(Lines("standard input", stdin), tab=False)
        return SpooledFeed("table", "line", records, Spool(spool / "input.jsonl"))
    suffix = "txt" if kind == "txt" else "jsonl"
    return CopiedFeed(kind, "standard input", stdin, Spool(spool / f"input.{suffix}"))

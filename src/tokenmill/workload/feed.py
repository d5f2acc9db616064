"""One input as a stream of pieces: where each row lies, its bytes, or the fault that kept it from having any."""

from __future__ import annotations

import io
import os
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

from msgspec.structs import replace

from tokenmill.errors import UsageError
from tokenmill.workload import builtin
from tokenmill.workload.documents import json_records
from tokenmill.workload.episodes import EPISODES, EpisodeFeed, is_episode
from tokenmill.workload.faults import RowFault, refuse
from tokenmill.workload.input import FileState, state_of
from tokenmill.workload.lines import PARQUET, Lines, open_input, sniff
from tokenmill.workload.pieces import Piece, Placed, States
from tokenmill.workload.spec import ROWS, STDIN, Spec, named_format
from tokenmill.workload.splits import is_folder, split_files
from tokenmill.workload.spool import Spool
from tokenmill.workload.spooled import SpooledFeed
from tokenmill.workload.strict_json import parse_object
from tokenmill.workload.tables import TOO_LONG, Record, csv_records, line_records, parquet_records, python_records

_HEAD = 4096
_SPOOL = "input.jsonl"


class Feed(Protocol):
    """Pieces of one input. `kind`, `unit` and, after the last piece, `skipped` are those of `Input`."""

    kind: str
    unit: str
    skipped: int

    def __iter__(self) -> Iterator[Piece]: ...
    def place(self, number: int) -> str:
        """Where a piece of this number stands, for people."""
        ...

    def within(self, custom_id: str | None, /) -> str:
        """Which part of that place the row of this id is, where several rows share one."""
        ...

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
        return _spooled(spec, "jsonl", "row", python_records(rows), spool)
    if builtin.is_builtin(spec.source):
        return _spooled(spec, "jsonl", "row", python_records(builtin.builtin_rows(spec.source)), spool)
    if spec.source == STDIN:
        return _open_stdin(spec, spool, stdin or _own_stdin())
    if is_folder(spec.source):
        return _open_folder(spec, spool)
    return _open_file(spec, spool)


class PlainFeed(Placed):
    """Lines read in place."""

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


class CopiedFeed(Placed):
    """Lines of a stream, copied byte for byte into the spool. What follows the last row used is not read."""

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


def _pieces(lines: Lines) -> Iterator[Piece]:
    for number, offset, data in lines:
        if data is None:
            yield number, offset, b"", TOO_LONG
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
    kind = _container(spec, head)
    if kind == "parquet":
        state = partial(state_of, Path(spec.source).absolute())
        return _spooled(spec, "table", "row", parquet_records(spec.source, file), spool, state, file)
    if head.startswith(PARQUET):
        raise refuse(spec.source, "this is a Parquet file; give it the suffix .parquet or --format parquet")
    before = os.fstat(file.fileno())
    lines = Lines(spec.source, file, end=before.st_size)
    state = partial(_finished, spec.source, file, lines, before)
    if kind == "jsonl" and (spec.format == EPISODES or (spec.format is None and _begins_with_episode(spec, file))):
        return EpisodeFeed(EPISODES, "line", line_records(lines), Spool(spool / _SPOOL), state, file)
    if kind not in ("csv", "json"):
        return PlainFeed(kind, spec.source, file)
    kept = "table" if kind == "csv" else "jsonl"
    return _spooled(spec, kept, "line", _records(kind, spec.source, lines), spool, state, file)


def _container(spec: Spec, head: bytes) -> str:
    """How the rows of a file are kept; episodes may be so in several ways."""
    if spec.format not in (None, EPISODES):
        return str(spec.format)
    kind = named_format(replace(spec, format=None)) or sniff(head)
    if spec.format == EPISODES and kind in ("txt", "csv"):
        raise refuse(spec.source, "episodes are JSON, JSONL or Parquet; end the name so, or leave --format out")
    return kind


def _records(kind: str, source: str, lines: Lines) -> Iterator[Record]:
    if kind == "csv":
        return csv_records(lines, tab=source.lower().endswith(".tsv"))
    return json_records(lines) if kind == "json" else line_records(lines, is_plain=kind == "txt")


def _begins_with_episode(spec: Spec, file: BinaryIO) -> bool:
    first = next(line_records(Lines(spec.source, file)), None)
    file.seek(0)
    return _is_episode(first)


def _is_episode(record: Record | None) -> bool:
    if record is None or isinstance(record[1], RowFault):
        return False
    try:
        return is_episode(parse_object(record[1], 0))
    except RowFault:
        return False


def _spooled(
    spec: Spec,
    kind: str,
    unit: str,
    records: Iterator[Record],
    spool: Path,
    state: Callable[[], FileState] | None = None,
    file: BinaryIO | None = None,
) -> SpooledFeed:
    """A feed of records, which may be episodes: by option, or as the first of them shows."""
    first = next(records, None)
    every = records if first is None else chain([first], records)
    if spec.format == EPISODES or (spec.format is None and _is_episode(first)):
        return EpisodeFeed(EPISODES, unit, every, Spool(spool / _SPOOL), state, file)
    return SpooledFeed(kind, unit, every, Spool(spool / _SPOOL), state, file)


def _open_folder(spec: Spec, spool: Path) -> Feed:
    files = split_files(spec)
    if len(files) == 1:
        return _open_file(replace(spec, source=str(files[0])), spool)
    is_table = _container(replace(spec, source=str(files[0])), b"") in ("csv", "parquet")
    joined = _Joined(spec, files)
    feed = _spooled(spec, "table" if is_table else "jsonl", "row", joined.records(), spool)
    feed.places = joined.place
    return feed


class _Joined:
    """The rows of several files, counted on from one to the next."""

    def __init__(self, spec: Spec, files: list[Path]) -> None:
        self._spec = spec
        self._files = files
        self._starts: list[int] = []

    def records(self) -> Iterator[Record]:
        count = 0
        for path in self._files:
            self._starts.append(count)
            with open_input(str(path)) as file:
                kind = _container(replace(self._spec, source=str(path)), b"")
                lines = Lines(str(path), file)
                rows = parquet_records(str(path), file) if kind == "parquet" else _records(kind, str(path), lines)
                for _, data in rows:
                    count += 1
                    yield count, data

    def place(self, number: int) -> str:
        part = bisect_left(self._starts, number) - 1
        return f"row {number} ({self._files[part].name}, row {number - self._starts[part]})"


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
    if kind in ("csv", "json", EPISODES):
        container = ("json" if head.lstrip().startswith(b"[") else "jsonl") if kind == EPISODES else kind
        records = _records(container, "standard input", Lines("standard input", stdin))
        return _spooled(spec, "table" if kind == "csv" else "jsonl", "line", records, spool)
    suffix = "txt" if kind == "txt" else "jsonl"
    return CopiedFeed(kind, "standard input", stdin, Spool(spool / f"input.{suffix}"))

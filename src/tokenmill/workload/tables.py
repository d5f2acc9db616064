"""Rows of CSV and Parquet tables and of Python iterables, as objects that can be spooled as JSONL."""

from __future__ import annotations

import csv
import json
import math
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from tokenmill.errors import UsageError
from tokenmill.workload.faults import RowFault, refuse, shown
from tokenmill.workload.lines import MAX_LINE, Lines
from tokenmill.workload.strict_json import decode

#: Line or row number from 1, then the row as JSON, or the fault that kept it from becoming that.
Record = tuple[int, bytes | RowFault]

_BATCH = 256
TOO_LONG = f"is longer than {MAX_LINE} bytes; split it, or check that the file has line ends"


def encode(row: object) -> bytes:
    """A row as one line of JSON; raises `RowFault` for values JSON can't hold."""
    if isinstance(row, str):
        row = {"prompt": row}
    if not isinstance(row, dict):
        raise RowFault(f"a row must be a str or a dict, not {type(row).__name__}")
    for name in row:
        if not isinstance(name, str):
            raise RowFault(f"field name {shown(name)} must be a str")
    try:
        data = json.dumps(row, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RowFault(f"can't be written as JSON ({error}); use str, int, float, bool, None, list and dict") from error
    if len(data) > MAX_LINE:
        raise RowFault(f"is longer than {MAX_LINE} bytes as JSON; split it")
    return data


def python_records(rows: Iterable[object]) -> Iterator[Record]:
    """Rows handed over in Python, taken one at a time."""
    for number, row in enumerate(rows, 1):
        try:
            yield number, encode(row)
        except RowFault as fault:
            yield number, fault


def line_records(lines: Lines, *, is_plain: bool = False) -> Iterator[Record]:
    """Rows that stand on a line each, as JSON or, if it `is_plain`, as prompts; a fault names the byte in the file."""
    for number, offset, data in lines:
        try:
            if data is None:
                raise RowFault(TOO_LONG)
            text = decode(data, offset)
            yield number, encode(text) if is_plain else data
        except RowFault as fault:
            yield number, fault


def csv_records(lines: Lines, *, tab: bool) -> Iterator[Record]:
    """Rows of a CSV file under its header, numbered by the line on which each begins; all values are text.

    Raises `InputFaults` for a header that can't name the columns.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    feed = _CsvFeed(lines)
    rows = _csv_rows(feed, csv.reader(feed, delimiter="\t" if tab else ",", strict=True))
    for number, cells in rows:
        if isinstance(cells, RowFault):
            raise refuse(lines.source, f"line {number}: {cells}")
        header = _header(lines.source, number, cells)
        break
    for number, cells in rows:
        try:
            yield number, cells if isinstance(cells, RowFault) else encode(_csv_row(header, cells))
        except RowFault as fault:
            yield number, fault


class _CsvFeed:
    """Hands decoded lines to the CSV reader; a line that can't be decoded is held against the row it is part of."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines.whole()
        self.fault: RowFault | None = None
        self.first = 0

    def begin_row(self) -> None:
        self.fault, self.first = None, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, offset, data = next(self._lines)
        self.first = self.first or number
        if data is None:
            self.fault = RowFault(f"line {number} is longer than {MAX_LINE} bytes; split it")
            return "\n"
        try:
            return decode(data, offset)
        except RowFault as fault:
            self.fault = fault
            return data.decode(errors="replace").replace("\0", "")


def _csv_rows(feed: _CsvFeed, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str] | RowFault]]:
    while True:
        feed.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield feed.first, feed.fault or RowFault(f"broken CSV ({error}); quote cells with quotes or line ends")
            continue
        if feed.fault is not None:
            yield feed.first, feed.fault
        elif cells:
            yield feed.first, cells


def _header(source: str, number: int, names: list[str]) -> list[str]:
    empty = [str(i) for i, name in enumerate(names, 1) if not name.strip()]
    if empty:
        raise refuse(source, f"line {number}: column {', '.join(empty)} of the header has no name; name every column")
    _check_names(source, names, f"line {number}: ")
    return names


def _check_names(source: str, names: list[str], place: str = "") -> None:
    if len(set(names)) != len(names):
        repeated = next(name for i, name in enumerate(names) if name in names[:i])
        raise refuse(source, f"{place}column {shown(repeated)} occurs twice; rename one")


def _csv_row(header: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise RowFault(f"has {len(cells)} cells and the header {len(header)}; quote cells that hold the separator")
    return dict(zip(header, cells, strict=True))


def parquet_records(source: str, file: BinaryIO) -> Iterator[Record]:
    """Rows of a Parquet file, numbered from 1, a batch in memory at a time.

    Dates, times and decimals become text, bytes base64, numbers that are not finite null: JSON has none of them.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(f"{source} is Parquet, which needs: pip install 'tokenmill[parquet]'") from error
    try:
        with pq.ParquetFile(file) as table:
            _check_names(source, table.schema_arrow.names)
            number = 0
            for batch in table.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, _encoded(row)
    except (pa.ArrowException, OSError) as error:
        raise refuse(source, f"can't be read as Parquet ({_one_line(error)}); is it complete?") from error


def _encoded(row: dict[str, object]) -> bytes | RowFault:
    try:
        return encode({name: _plain(value) for name, value in row.items()})
    except RowFault as fault:
        return fault


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return str(value)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

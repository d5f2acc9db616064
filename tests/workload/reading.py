"""Scans and reads inputs the way a run does."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from tokenmill.errors import InputFaults
from tokenmill.request import Request
from tokenmill.workload import ROWS, Entry, Input, Reader, Spec, scan


def scanned(
    spec: Spec, folder: Path, *, rows: Iterable[object] | None = None, stdin: bytes | None = None
) -> tuple[list[Entry], Input]:
    stream = None if stdin is None else io.BufferedReader(io.BytesIO(stdin))  # type: ignore[arg-type]
    pass_ = scan(spec, folder / "spool", rows=rows, stdin=stream)
    entries = list(pass_)
    assert pass_.input is not None
    return entries, pass_.input


def requests(
    spec: Spec, folder: Path, *, rows: Iterable[object] | None = None, stdin: bytes | None = None
) -> list[Request]:
    """All requests of an input, each read by its place."""
    entries, source = scanned(spec, folder, rows=rows, stdin=stdin)
    with Reader(spec, source) as reader:
        return [reader.request(e.row, e.custom_id, e.offset, e.length, e.line) for e in entries if e.fault is None]


def python_requests(rows: Iterable[object], folder: Path, **options: object) -> list[Request]:
    return requests(Spec(source=ROWS, **options), folder, rows=rows)  # type: ignore[arg-type]


def write(folder: Path, content: bytes | str, name: str = "in.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def faults(content: bytes | str, folder: Path, name: str = "in.jsonl", **options: object) -> tuple[str, ...]:
    """The faults of a file, without its name."""
    spec = Spec(source=str(write(folder, content, name)), **options)  # type: ignore[arg-type]
    with pytest.raises(InputFaults) as caught:
        scanned(spec, folder)
    return caught.value.faults


def fault(content: bytes | str, folder: Path, name: str = "in.jsonl", **options: object) -> str:
    """The one fault of a file."""
    (text,) = faults(content, folder, name, **options)
    return text

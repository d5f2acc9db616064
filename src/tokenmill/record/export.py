"""Answers leave the record: whole files, in input order, equal bytes for equal answers.

JSONL has the shape of OpenAI batch results. It is a function of input, options and answers alone: ids are derived from
the run's hash and `custom_id`, `created` is 0, and node, attempts and timings appear only when asked for.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenmill.errors import StorageError, UsageError
from tokenmill.event import Attempt
from tokenmill.record.atomic import whole_file
from tokenmill.record.folder import Manifest
from tokenmill.record.store import Record, Result

FORMATS = ("jsonl", "csv", "parquet", "txt")
COLUMNS = (
    "custom_id",
    "answer",
    "finish_reason",
    "prompt_tokens",
    "output_tokens",
    "flags",
    "error",
    "error_message",
    "parent",
    "round",
    "role",
)
TIMING_FIELDS = ("node", "session", "outcome", "dispatched", "first_token", "finished", "width_mean")
#: A cell that begins so is taken for a formula by spreadsheets (OWASP ASVS 1.2.10).
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\0")

InputRow = Callable[[Result], dict[str, Any]]


def format_of(path: Path, chosen: str | None = None) -> str:
    """The export format by option, else by suffix; raises `UsageError` for one that can't be written here."""
    name = chosen or path.suffix.lstrip(".").lower()
    name = {"ndjson": "jsonl", "pq": "parquet"}.get(name, name)
    if name not in FORMATS:
        raise UsageError(f"{path}: no export format {name!r}; end the name in {', '.join('.' + f for f in FORMATS)}")
    if name == "parquet" and find_spec("pyarrow") is None:
        raise UsageError(f"{path}: Parquet needs pyarrow: pip install 'tokenmill[parquet]', or export CSV or JSONL")
    return name


def export(
    record: Record,
    manifest: Manifest,
    path: Path,
    *,
    chosen: str | None = None,
    with_timings: bool = False,
    input_row: InputRow | None = None,
    neutralize: bool = True,
) -> int:
    """Writes all final words to `path`, failed requests to `*.errors.jsonl` as well; returns the rows written.

    `input_row` gives the columns of the input, which then stand before the answer. `neutralize` puts an apostrophe
    before CSV cells that a spreadsheet would run as a formula. Raises `StorageError` if the file can't be written.
    """
    kind = format_of(path, chosen)
    rows = 0

    def finals() -> Iterator[Result]:
        nonlocal rows
        for result in record.results():
            if result.text is not None or result.kind is not None:
                rows += 1
                yield result

    try:
        with record.frozen():
            if kind == "jsonl":
                timings = _timings(record) if with_timings else None
                _write_lines(path, (batch_line(result, manifest, timings) for result in finals()))
            elif kind == "txt":
                _write_lines(path, (text_line(result) for result in finals()))
            elif kind == "csv":
                _write_csv(path, (_cells(result, input_row) for result in finals()), neutralize=neutralize)
            else:
                _write_parquet(path, (_cells(result, input_row) for result in finals()))
            _write_errors(record, manifest, path)
    except OSError as error:
        raise StorageError(
            f"{path}: can't write ({error.strerror or error}); the answers are safe in run {manifest.run_id}, "
            f"write them elsewhere with 'tokenmill export {manifest.run_id} -o FILE'"
        ) from error
    return rows


def batch_line(result: Result, manifest: Manifest, timings: Callable[[int], list[dict[str, Any]]] | None = None) -> str:
    """One line in the shape of an OpenAI batch result; our own flags are under the one key `tokenmill`."""
    digest = hashlib.sha256(f"{manifest.run_hash}:{result.custom_id}".encode()).hexdigest()[:24]
    ours: dict[str, Any] = {"flags": result.flags.split(",") if result.flags else []}
    if result.parent is not None:
        ours |= {"parent": result.parent, "round": result.round, "role": result.role}
    if timings is not None:
        ours["attempts"] = timings(result.row)
    line: dict[str, Any] = {"id": f"batch_req_{digest}", "custom_id": result.custom_id, "response": None, "error": None}
    if result.text is None:
        line["error"] = {"code": result.kind, "message": result.message}
    else:
        is_chat = manifest.input.endpoint == "chat"
        said = {"message": {"role": "assistant", "content": result.text}} if is_chat else {"text": result.text}
        body = {
            "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{digest}",
            "object": "chat.completion" if is_chat else "text_completion",
            "created": 0,
            "model": manifest.model,
            "choices": [{"index": 0, **said, "finish_reason": result.finish_reason}],
            "usage": {
                "prompt_tokens": result.prompt_tokens,
                "completion_tokens": result.output_tokens,
                "total_tokens": result.prompt_tokens + result.output_tokens,
            },
        }
        line["response"] = {"status_code": 200, "request_id": f"req_{digest}", "body": body}
    line["tokenmill"] = ours
    return json.dumps(line)


def text_line(result: Result) -> str:
    """Id, tab, answer on one line; backslash, tab and line ends in the answer are written as escapes."""
    said = result.text if result.text is not None else f"[{result.kind}] {result.message}"
    for plain, escape in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        said = said.replace(plain, escape)
    return f"{result.custom_id}\t{said}"


def _timings(record: Record) -> Callable[[int], list[dict[str, Any]]]:
    """The attempts of each row; rows must be asked for in the order of `Record.results`."""
    ahead = record.attempts_by_row()
    held: tuple[int, list[Attempt]] | None = next(ahead, None)

    def of(row: int) -> list[dict[str, Any]]:
        nonlocal held
        if held is None or held[0] != row:
            return []
        attempts, held = held[1], next(ahead, None)
        return [{name: getattr(attempt, name) for name in TIMING_FIELDS} for attempt in attempts]

    return of


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with whole_file(path) as file:
        for line in lines:
            file.write(line.encode() + b"\n")


def _cells(result: Result, input_row: InputRow | None) -> dict[str, Any]:
    ours: dict[str, Any] = {
        "custom_id": result.custom_id,
        "answer": result.text,
        "finish_reason": result.finish_reason,
        "prompt_tokens": result.prompt_tokens,
        "output_tokens": result.output_tokens,
        "flags": result.flags,
        "error": result.kind,
        "error_message": result.message,
        "parent": result.parent,
        "round": result.round,
        "role": result.role,
    }
    if input_row is None:
        return ours
    given = input_row(result)
    return given | {name if name not in given else f"tokenmill_{name}": value for name, value in ours.items()}


def _write_csv(path: Path, rows: Iterable[dict[str, Any]], *, neutralize: bool) -> None:
    def safe(value: Any) -> Any:
        return f"'{value}" if neutralize and isinstance(value, str) and value.startswith(FORMULA_STARTS) else value

    with whole_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(text, fieldnames=list(row), extrasaction="ignore", restval="")
                writer.writeheader()
            writer.writerow({name: safe(value) for name, value in row.items()})
        text.detach()


def _write_parquet(path: Path, rows: Iterable[dict[str, Any]], batch: int = 10_000) -> None:
    import pyarrow
    import pyarrow.parquet

    with whole_file(path) as file:
        writer = None
        held: list[dict[str, Any]] = []
        schema = None

        def flush() -> None:
            nonlocal writer, schema
            table = pyarrow.Table.from_pylist(held, schema=schema)
            if writer is None:
                schema = _firm(pyarrow, table.schema)
                table = pyarrow.Table.from_pylist(held, schema=schema)
                writer = pyarrow.parquet.ParquetWriter(file, schema)
            writer.write_table(table)
            held.clear()

        for row in rows:
            held.append(row)
            if len(held) == batch:
                flush()
        flush()
        assert writer is not None
        writer.close()


def _firm(pyarrow: Any, schema: Any) -> Any:
    """Columns that are empty in the first batch are text; their type could not be seen."""
    fields = [
        field if field.type != pyarrow.null() else pyarrow.field(field.name, pyarrow.string()) for field in schema
    ]
    return pyarrow.schema(fields)


def errors_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.errors.jsonl")


def _write_errors(record: Record, manifest: Manifest, path: Path) -> None:
    """Failed requests, to look at and to send again; an older file of that name goes when nothing failed."""
    beside = errors_path(path)
    if any(record.counts().failed.values()):
        _write_lines(beside, (batch_line(result, manifest) for result in record.results() if result.kind is not None))
    else:
        beside.unlink(missing_ok=True)

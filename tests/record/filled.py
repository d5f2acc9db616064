"""A small record to read from: three rows, written through the real writer."""

from __future__ import annotations

from pathlib import Path

from tokenmill.event import Answer
from tokenmill.record.folder import Manifest
from tokenmill.record.store import Record
from tokenmill.record.writer import Writer
from tokenmill.workload import FileState, Input


def manifest(run_id: str = "r") -> Manifest:
    state = FileState(path="input.jsonl", size=1, mtime_ns=0, sha256="0" * 64)
    return Manifest(
        run_id=run_id,
        run_hash="f" * 32,
        created="2026-01-01T00:00:00+0000",
        argv=[],
        folder="",
        output=None,
        input=Input(kind="jsonl", unit="line", source=None, data=state, rows=3),
        rows=3,
        model="model-x",
        model_digest="d",
        options={},
        settings={},
        seed=0,
        machine={},
        versions={},
    )


def answer(text: str, *flags: str) -> Answer:
    return Answer(text=text, finish_reason="stop", prompt_tokens=2, output_tokens=3, flags=flags, first_token=0.5)


def request(row: int, custom_id: str, parent: int | None = None) -> tuple[object, ...]:
    return (row, custom_id, row + 1, 0, 0, 1.0, 0, parent, 0 if parent is None else 1, "", None)


def fill(path: Path, said: dict[int, str | tuple[str, str]], ids: list[str] | None = None) -> Record:
    """A record whose rows have the given answers (text) or failures (kind, message)."""
    record = Record.create(path)
    names = ids or ["a", "b", "c"]
    record.fill(request(row, name) for row, name in enumerate(names))
    writer = open_writer(path)
    for attempt, (row, word) in enumerate(said.items()):
        writer.dispatched(attempt, row, 1, 0, 0, 0.1)
        if isinstance(word, str):
            writer.finished(attempt, row, 1.0, answer(word))
        else:
            writer.ended(attempt, "failed", 1.0, *word)
            writer.set_aside(row, attempt, *word)
    writer.close()
    return record


def open_writer(path: Path, durability: str = "process") -> Writer:
    def ignore(_: object) -> None:
        """Nobody waits for news here."""

    writer = Writer(path, durability=durability, on_written=ignore, on_committed=ignore, on_error=ignore)
    writer.put(("session", (0, "2026-01-01T00:00:00+0000", 1)))
    return writer

"""The writer: order, durability words, and invariants that are part of the file."""

from __future__ import annotations

import queue
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from record.filled import answer, fill, open_writer, request
from tokenmill.errors import StorageError
from tokenmill.record.store import Record
from tokenmill.record.writer import Writer


def test_written_means_that_another_process_would_see_it(tmp_path: Path) -> None:
    """When a dispatch is reported as written, a connection of its own reads it; commits follow in order."""
    record = Record.create(tmp_path / "record.db")
    record.fill([request(0, "a")])
    news: queue.Queue[tuple[str, int]] = queue.Queue()
    writer = Writer(
        tmp_path / "record.db",
        durability="full",
        on_written=lambda number: news.put(("written", number)),
        on_committed=lambda number: news.put(("committed", number)),
        on_error=lambda error: news.put((str(error), -1)),
    )
    number = writer.dispatched(0, 0, 1, 0, 0, 0.5)

    assert news.get(timeout=10) == ("written", number)
    assert [attempt.dispatched for attempt, _ in record.attempts_of(0)] == [0.5]
    assert news.get(timeout=10) == ("committed", number)
    writer.close()


def test_a_value_that_cant_be_stored_ends_the_writer(tmp_path: Path) -> None:
    """A thread that died unseen would leave its run waiting for ever."""
    record = Record.create(tmp_path / "record.db")
    record.fill([request(0, "a")])
    errors: queue.Queue[StorageError] = queue.Queue()
    writer = Writer(
        tmp_path / "record.db",
        durability="full",
        on_written=lambda _: None,
        on_committed=lambda _: None,
        on_error=errors.put,
    )
    writer.dispatched(0, 0, 1, 0, 0, 0.5)
    writer.finished(0, 0, 1.0, answer("half of \ud800"))

    assert "surrogates not allowed" in str(errors.get(timeout=10))
    with pytest.raises(StorageError, match="what was committed is kept"):
        writer.close()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["answer", "fail", "lose"]), min_size=1, max_size=40), st.booleans())
def test_every_row_has_one_final_word_or_none(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], full: bool
) -> None:
    """Whatever mixture of ends is recorded, each row is answered, failed or unfinished, exactly once."""
    path = tmp_path_factory.mktemp("record") / "record.db"
    record = Record.create(path)
    record.fill(request(row, str(row)) for row in range(len(words)))
    writer = open_writer(path, "full" if full else "process")
    for row, word in enumerate(words):
        writer.dispatched(row, row, 1, 0, 0, 0.0)
        if word == "answer":
            writer.finished(row, row, 1.0, answer("x"))
        elif word == "fail":
            writer.ended(row, "failed", 1.0, "refused", "no")
            writer.set_aside(row, row, "refused", "no")
    writer.close()

    counts = record.counts()
    assert (counts.answered, counts.failed.get("refused", 0)) == (words.count("answer"), words.count("fail"))
    assert record.recover() == words.count("lose") == counts.unfinished
    assert record.leases() == {row: 1 for row, word in enumerate(words) if word == "lose"}


def test_an_answer_is_final(tmp_path: Path) -> None:
    """The file itself refuses a changed, removed or second answer, and a failure beside one."""
    fill(tmp_path / "record.db", {0: "said", 1: ("refused", "no")}).close()
    connection = sqlite3.connect(tmp_path / "record.db")
    for statement in (
        "UPDATE answer SET text = 'other' WHERE row = 0",
        "DELETE FROM answer WHERE row = 0",
        "INSERT INTO answer VALUES (0, 9, 'again', 'stop', 1, 1, '')",
        "INSERT INTO failure VALUES (0, 9, 'refused', 'no')",
        "INSERT INTO answer VALUES (1, 9, 'late', 'stop', 1, 1, '')",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)
    connection.close()


def test_an_error_of_the_disk_is_reported_once_and_nothing_more_is_written(tmp_path: Path) -> None:
    """After a failed write the writer says so, keeps what it had committed, and refuses to end well."""
    path = tmp_path / "record.db"
    fill(path, {0: "kept"}).close()
    errors: queue.Queue[StorageError] = queue.Queue()
    writer = Writer(
        path,
        durability="full",
        on_written=lambda number: None,
        on_committed=lambda number: None,
        on_error=errors.put,
    )
    writer.finished(1, 0, 1.0, answer("a second answer"))  # refused by the file

    assert "what was committed is kept" in str(errors.get(timeout=10))
    with pytest.raises(StorageError):
        writer.close()
    assert [result.text for result in Record(path).results()] == ["kept", None, None]


def test_a_long_log_is_folded_while_writing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write-ahead log doesn't grow without bound."""
    monkeypatch.setattr("tokenmill.record.writer.FOLD_AFTER", 1 << 18)
    path = tmp_path / "record.db"
    record = Record.create(path)
    record.fill(request(row, str(row)) for row in range(3000))
    writer = open_writer(path)
    for row in range(3000):
        writer.dispatched(row, row, 1, 0, 0, 0.0)
        writer.finished(row, row, 1.0, answer("x" * 2000))
        if row % 50 == 0:
            record.counts()  # gives the threads their turn
    largest = Path(f"{path}-wal").stat().st_size
    writer.close()

    assert largest < 6 << 20
    assert record.counts().answered == 3000

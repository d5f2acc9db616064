"""Reading a record, and filling it before a run starts. While a run goes on, only the `Writer` writes."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from tokenmill.cluster import EngineFacts
from tokenmill.errors import StorageError, UsageError
from tokenmill.event import Attempt
from tokenmill.footprint import Footprint
from tokenmill.record import schema
from tokenmill.record.atomic import sync_folder
from tokenmill.record.place import shared_kind
from tokenmill.record.stories import has_unjudged
from tokenmill.record.writer import STATEMENTS, connect, open_log

_UNFINISHED = (
    "FROM request WHERE NOT EXISTS (SELECT 1 FROM answer WHERE answer.row = request.row)"
    " AND NOT EXISTS (SELECT 1 FROM failure WHERE failure.row = request.row)"
)
_ATTEMPT = (
    "SELECT row, lease, node, session, coalesce(outcome, 'lost'), dispatched, coalesce(finished, dispatched),"
    " first_token, coalesce(prompt_tokens, 0), coalesce(output_tokens, 0), coalesce(itl_sum, 0), coalesce(itl_max, 0),"
    " coalesce(chunks, 0), coalesce(width_mean, 0), coalesce(width_max, 0), coalesce(kind, '') FROM attempt"
)
_ATTEMPT_FIELDS = Attempt.__struct_fields__
_RESULT = (
    "SELECT request.row, custom_id, line, offset, length, parent, round, role, text, finish_reason,"
    " coalesce(prompt_tokens, 0), coalesce(output_tokens, 0), coalesce(flags, ''), failure.kind, failure.message,"
    " coalesce(answer.attempt, failure.attempt) FROM request"
    " LEFT JOIN answer ON answer.row = request.row LEFT JOIN failure ON failure.row = request.row"
)
_TREE = (
    "WITH RECURSIVE tree (row, root) AS (SELECT row, row FROM request WHERE parent IS NULL UNION ALL"
    " SELECT request.row, tree.root FROM request JOIN tree ON request.parent = tree.row)"
)


class Place(Struct, frozen=True):
    """Where the text of a row is: a span of the input, or, for a row born during the run, its own `body`."""

    row: int
    custom_id: str
    line: int
    offset: int
    length: int
    body: bytes | None
    round: int


class Result(Struct, frozen=True, kw_only=True):
    """The final word on a row, or `text` and `kind` both None while there is none."""

    row: int
    custom_id: str
    line: int
    offset: int
    length: int
    parent: int | None
    round: int
    role: str
    text: str | None
    finish_reason: str | None
    prompt_tokens: int
    output_tokens: int
    flags: str
    kind: str | None
    message: str | None
    attempt: int | None


class Session(Struct, frozen=True, kw_only=True):
    """One start of the run; times of its events count from its own beginning."""

    number: int
    started_at: str
    ended: float | None
    outcome: str | None


class Counts(Struct, frozen=True, kw_only=True):
    """How far a run is."""

    rows: int
    answered: int
    failed: dict[str, int]

    @property
    def unfinished(self) -> int:
        return self.rows - self.answered - sum(self.failed.values())


class Record:
    """The record of one run, open for reading; its connection sees whatever is committed at each query."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UsageError(f"{path}: there is no record; name a run that 'tokenmill runs list' shows")
        self.path = path
        try:
            self._connection = connect(path)
        except sqlite3.OperationalError as error:
            if (kind := shared_kind(path.parent)) and "locked" in str(error):
                raise UsageError(
                    f"{path}: another process has it to itself, as there may be one at a time on {kind}; wait for it"
                ) from error
            raise StorageError(f"{path}: can't be opened ({error}); free space or check the disk") from error
        except sqlite3.DatabaseError as error:
            raise UsageError(f"{path}: not a readable record ({error}); restore the run folder from a copy") from error
        schema.check(self._connection, path)

    @classmethod
    def create(cls, path: Path) -> Record:
        """An empty record with its tables, ready for `fill`."""
        path.touch(mode=0o600)
        connection = connect(path)
        schema.create(connection)
        connection.close()
        return cls(path)

    def close(self) -> None:
        """Ends with a sync of its own: what was read here may be told, and SQLite is silent on a sync that fails."""
        try:
            self.sync()
        finally:
            self._connection.close()

    def fill(self, rows: Iterable[tuple[object, ...]]) -> int:
        """Puts the rows of an input into the record before anything is sent; returns how many."""
        before = self._connection.total_changes
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(STATEMENTS["request"], rows)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return self._connection.total_changes - before

    def fill_failures(self, failures: Iterable[tuple[int, str, str]]) -> None:
        """Rows that can't be sent: each gets its final word, (row, kind, message), before the run."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(STATEMENTS["failure"], ((row, None, kind, text) for row, kind, text in failures))
        self._connection.execute("COMMIT")

    def drop_rows(self, first: int) -> None:
        """Takes back rows from `first` on that were filled in but never became part of the run."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("DELETE FROM failure WHERE row >= ?", (first,))
        self._connection.execute("DELETE FROM request WHERE row >= ?", (first,))
        self._connection.execute("COMMIT")

    def settle(self) -> None:
        """Folds the log into the database and syncs both, so that what was filled survives power loss."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(self.path.parent)

    def longest(self) -> int | None:
        """The unfinished row with most bytes in the input; None if none is unfinished."""
        found = self._connection.execute(f"SELECT row, max(length) {_UNFINISHED}").fetchone()
        return None if found is None or found[0] is None else int(found[0])

    def recover(self) -> int:
        """Marks attempts that were in flight when the driver died as lost; returns how many."""
        lost = self._connection.execute("UPDATE attempt SET outcome = 'lost' WHERE outcome IS NULL").rowcount
        self._connection.execute(
            "UPDATE session SET outcome = 'killed', ended = coalesce((SELECT"
            " max(max(dispatched), max(coalesce(finished, 0))) FROM attempt WHERE attempt.session = session.number), 0)"
            " WHERE outcome IS NULL"
        )
        self.sync()  # a kill may have come between an answer and its sync, and now that answer counts
        return lost

    def sync(self) -> None:
        """Makes everything that can be read now survive power loss; raises `StorageError` if that can't be."""
        log = open_log(self.path)
        if log is None:
            return
        try:
            os.fdatasync(log)
        except OSError as error:
            raise StorageError(
                f"{self.path}: can't be synced ({error.strerror}); what was committed is kept"
            ) from error
        finally:
            os.close(log)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All reads inside see one moment, which survives power loss: for what leaves the record."""
        self._connection.execute("BEGIN")
        try:
            self._connection.execute("SELECT EXISTS (SELECT 1 FROM session)").fetchone()  # the moment
            self.sync()
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def retry(self, kinds: Iterable[str]) -> int:
        """Takes back the failures of these classes, so that a resume tries those rows again; returns how many."""
        chosen = list(kinds)
        marks = ",".join("?" * len(chosen))
        return self._connection.execute(f"DELETE FROM failure WHERE kind IN ({marks})", chosen).rowcount

    def unfinished(self) -> Iterator[tuple[int, float, int]]:
        """(row, predicted output tokens, group) of each row without a final word, in input order."""
        yield from self._connection.execute(f"SELECT row, predicted, grp {_UNFINISHED} ORDER BY row")

    def leases(self) -> dict[int, int]:
        """The last lease number of each unfinished row that was tried before."""
        return dict(
            self._connection.execute(
                "SELECT row, max(lease) FROM attempt WHERE row NOT IN (SELECT row FROM answer)"
                " AND row NOT IN (SELECT row FROM failure) GROUP BY row"
            )
        )

    def place(self, row: int) -> Place:
        found = self._connection.execute(
            "SELECT row, custom_id, line, offset, length, body, round FROM request WHERE row = ?", (row,)
        ).fetchone()
        return Place(*found)

    def find_custom_id(self, custom_id: str) -> int | None:
        found = self._connection.execute("SELECT row FROM request WHERE custom_id = ?", (custom_id,)).fetchone()
        return found[0] if found else None

    def next_numbers(self) -> tuple[int, int, int]:
        """The next free row, attempt and session numbers."""
        numbers = self._connection.execute(
            "SELECT (SELECT coalesce(max(row) + 1, 0) FROM request), (SELECT coalesce(max(id) + 1, 0) FROM attempt),"
            " (SELECT coalesce(max(number) + 1, 0) FROM session)"
        ).fetchone()
        return numbers[0], numbers[1], numbers[2]

    def tokens(self) -> tuple[int, int, int, int, int]:
        """Tokens read and written for answers, the number of answers, and tokens read and written without one.

        What was in flight when the driver was killed is taken to have cost as much as a mean answer.
        """
        sums = "coalesce(sum(prompt_tokens), 0), coalesce(sum(output_tokens), 0), count(*)"
        read, written, answers = self._connection.execute(f"SELECT {sums} FROM answer").fetchone()
        query = f"SELECT {sums}, coalesce(sum(outcome = 'lost'), 0) FROM attempt WHERE outcome <> 'answered'"
        vain_read, vain_written, _, lost = self._connection.execute(query).fetchone()
        if answers:
            vain_read, vain_written = vain_read + lost * read // answers, vain_written + lost * written // answers
        return read, written, answers, vain_read, vain_written

    def counts(self) -> Counts:
        (rows,) = self._connection.execute("SELECT count(*) FROM request").fetchone()
        (answered,) = self._connection.execute("SELECT count(*) FROM answer").fetchone()
        failed = dict(self._connection.execute("SELECT kind, count(*) FROM failure GROUP BY kind ORDER BY kind"))
        return Counts(rows=rows, answered=answered, failed=failed)

    def in_flight(self) -> int:
        """Attempts without an end: what a driver that is at work waits for."""
        (found,) = self._connection.execute("SELECT count(*) FROM attempt WHERE outcome IS NULL").fetchone()
        return int(found)

    def has_attempts(self) -> bool:
        """Whether anything was ever sent."""
        (found,) = self._connection.execute("SELECT EXISTS (SELECT 1 FROM attempt)").fetchone()
        return bool(found)

    def attempts(self) -> Iterator[Attempt]:
        """All attempts, by session and time of dispatch."""
        for values in self._connection.execute(f"{_ATTEMPT} ORDER BY session, dispatched, id"):
            yield _attempt(values)

    def attempts_of(self, row: int) -> list[tuple[Attempt, str]]:
        """The attempts of one row with their failure messages, first one first."""
        query = _ATTEMPT.replace(" FROM attempt", ", coalesce(message, '') FROM attempt WHERE row = ? ORDER BY id")
        return [(_attempt(values[:-1]), values[-1]) for values in self._connection.execute(query, (row,))]

    def attempts_by_row(self) -> Iterator[tuple[int, list[Attempt]]]:
        """The attempts of each row that has a final word, in the order of `results`."""
        final = (
            "(EXISTS (SELECT 1 FROM answer WHERE answer.row = attempt.row)"
            " OR EXISTS (SELECT 1 FROM failure WHERE failure.row = attempt.row))"
        )
        columns = _ATTEMPT.replace("SELECT row", "SELECT attempt.row")
        query = (
            f"{_TREE} {columns} JOIN tree ON tree.row = attempt.row WHERE {final} ORDER BY tree.root, attempt.row, id"
        )
        rows = (_attempt(values) for values in self._connection.execute(query))
        for row, attempts in itertools.groupby(rows, key=lambda attempt: attempt.row):
            yield row, list(attempts)

    def results(self) -> Iterator[Result]:
        """Every row with its final word, in input order; rows born during the run follow their input row."""
        (born,) = self._connection.execute("SELECT EXISTS (SELECT 1 FROM request WHERE parent IS NOT NULL)").fetchone()
        if born:
            query = f"{_TREE} {_RESULT} JOIN tree ON tree.row = request.row ORDER BY tree.root, request.row"
        else:
            query = f"{_RESULT} ORDER BY request.row"
        for values in self._connection.execute(query):
            yield _result(values)

    def result_of(self, row: int) -> Result:
        return _result(self._connection.execute(f"{_RESULT} WHERE request.row = ?", (row,)).fetchone())

    def failed_rows(self) -> dict[str, int]:
        """The first row of each class of failure."""
        return dict(self._connection.execute("SELECT kind, min(row) FROM failure GROUP BY kind"))

    def unsent(self) -> int:
        """Rows that failed before anything was sent."""
        query = "SELECT count(*) FROM failure WHERE NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.row = failure.row)"
        (found,) = self._connection.execute(query).fetchone()
        return int(found)

    def most_in_flight(self) -> dict[tuple[int, int], int]:
        """The largest number of requests at the same time, by session and number of the node."""
        query = (
            "SELECT session, node, max(running) FROM (SELECT session, node, sum(change) OVER"
            " (PARTITION BY session, node ORDER BY time, change ROWS UNBOUNDED PRECEDING) AS running"
            " FROM (SELECT session, node, dispatched AS time, 1 AS change FROM attempt UNION ALL"
            " SELECT session, node, finished, -1 FROM attempt WHERE finished IS NOT NULL))"
            " GROUP BY session, node"
        )
        return {(session, node): most for session, node, most in self._connection.execute(query)}

    def has_unjudged(self) -> bool:
        """Whether an answer, or a failure, of a story waits to be judged."""
        return has_unjudged(self._connection)

    def stories(self) -> dict[str, int]:
        """Stories by how they ended."""
        query = "SELECT outcome, count(*) FROM story GROUP BY outcome ORDER BY outcome"
        return dict(self._connection.execute(query))

    def births(self) -> Iterator[tuple[int, float, int]]:
        """(session, time, rows) of the rows that arrived during the run: at the moment their parent was answered."""
        query = (
            "SELECT session, finished, count(*) FROM request JOIN answer ON answer.row = request.parent"
            " JOIN attempt ON attempt.id = answer.attempt WHERE request.round > 0"
            " GROUP BY attempt.id ORDER BY session, finished"
        )
        yield from self._connection.execute(query)

    def sessions(self) -> list[Session]:
        rows = self._connection.execute("SELECT number, started_at, ended, outcome FROM session ORDER BY number")
        return [Session(number=number, started_at=at, ended=ended, outcome=how) for number, at, ended, how in rows]

    def nodes(self) -> list[tuple[int, int, str, EngineFacts]]:
        """(session, number, name, facts) of every node that was opened."""
        rows = self._connection.execute("SELECT session, number, name, facts FROM node ORDER BY session, number")
        decode = msgspec.json.Decoder(EngineFacts).decode
        return [(session, number, name, decode(facts)) for session, number, name, facts in rows]

    def footprints(self) -> dict[int, Footprint]:
        """What each session took of its machine, by number; one that ended at once, or is older, has none."""
        decode = msgspec.json.Decoder(Footprint).decode
        rows = self._connection.execute("SELECT session, facts FROM footprint ORDER BY session")
        return {session: decode(facts) for session, facts in rows}

    def spans(self) -> Iterator[tuple[int, int, str, float, float | None]]:
        """(session, node, kind, start, finish) of intervals such as `load` and `up`."""
        query = "SELECT session, node, kind, start, finish FROM span ORDER BY session, start"
        yield from self._connection.execute(query)


def _attempt(values: tuple[Any, ...]) -> Attempt:
    return Attempt(**dict(zip(_ATTEMPT_FIELDS, values, strict=True)))


def _result(values: tuple[Any, ...]) -> Result:
    return Result(**dict(zip(Result.__struct_fields__, values, strict=True)))

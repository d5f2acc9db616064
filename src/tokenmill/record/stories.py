"""What the record holds of the stories of input rows: prompts, what was found in their answers, and how they ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from tokenmill.record.writer import Parameters, connect

Entry = tuple[str, Parameters]

_PROMPT = (
    "SELECT request.row, role, round, text, failure.kind, failure.message, flags FROM tree"
    " JOIN request ON request.row = tree.row LEFT JOIN answer ON answer.row = tree.row"
    " LEFT JOIN failure ON failure.row = tree.row ORDER BY request.row"
)
_DOWN = (
    "WITH RECURSIVE tree (row) AS (SELECT ? UNION ALL"
    " SELECT request.row FROM request JOIN tree ON request.parent = tree.row)"
)
_UP = (
    "WITH RECURSIVE line (row, parent) AS (SELECT row, parent FROM request WHERE row = ? UNION ALL"
    " SELECT request.row, request.parent FROM request JOIN line ON request.row = line.parent)"
    " SELECT row FROM line WHERE parent IS NULL"
)
_UNJUDGED = (
    "FROM request WHERE (EXISTS (SELECT 1 FROM answer WHERE answer.row = request.row)"
    " OR EXISTS (SELECT 1 FROM failure WHERE failure.row = request.row))"
    " AND NOT EXISTS (SELECT 1 FROM item WHERE item.row = request.row AND number = 0)"
)


class Prompt(Struct, frozen=True):
    """A prompt of a story; `key` is empty for the input row's own. `text` or `kind` is its final word, if it has one.

    `depth`: how many answers had to come before it. `flags`: oddities of the answer, with commas between them.
    """

    row: int
    key: str
    depth: int
    text: str | None
    kind: str | None
    message: str | None
    flags: str | None = None

    @property
    def is_final(self) -> bool:
        return self.text is not None or self.kind is not None


class Found(Struct, frozen=True, kw_only=True):
    """What was found in an answer; number 0 is the answer itself, whose `role` says if it was `failed` or `broken`.

    A number below 0, which only input rows have, is a prompt of the story that couldn't be written; `text` is its key.
    """

    row: int
    number: int
    role: str
    text: str
    data: dict[str, Any]
    passed: bool
    value: float | None
    merit: float
    reasons: tuple[str, ...]

    def entry(self) -> Entry:
        data = msgspec.json.encode(self.data) if self.data else None
        said = (self.row, self.number, self.role, self.text, data, int(self.passed), self.value, self.merit)
        return "item", (*said, msgspec.json.encode(self.reasons))


class Scored(Struct, frozen=True):
    """What one validator said of one item."""

    row: int
    number: int
    validator: str
    value: float | None
    passed: bool
    reason: str

    def entry(self) -> Entry:
        return "score", (self.row, self.number, self.validator, self.value, int(self.passed), self.reason)


class Ended(Struct, frozen=True):
    """How the story of an input row ended."""

    row: int
    outcome: str
    rounds: int
    reasons: tuple[str, ...]

    def entry(self) -> Entry:
        return "story", (self.row, self.outcome, self.rounds, msgspec.json.encode(self.reasons))


class Stories:
    """Reads stories from a record, over a connection of its own, so that a thread of its own may."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)

    def close(self) -> None:
        self._connection.close()

    def root_of(self, row: int) -> int:
        """The input row whose story this row belongs to."""
        (found,) = self._connection.execute(_UP, (row,)).fetchone()
        return int(found)

    def prompts(self, root: int) -> list[Prompt]:
        """All prompts of a story, the input row's own first."""
        return [Prompt(*values) for values in self._connection.execute(f"{_DOWN} {_PROMPT}", (root,))]

    def found(self, root: int) -> list[Found]:
        """Everything found in answers of a story, by row and number."""
        query = f"{_DOWN} SELECT item.* FROM tree JOIN item ON item.row = tree.row ORDER BY item.row, number"
        return [_found(values) for values in self._connection.execute(query, (root,))]

    def scores(self, root: int) -> list[Scored]:
        """All scores of a story, by row, number and validator."""
        query = f"{_DOWN} SELECT score.* FROM tree JOIN score ON score.row = tree.row ORDER BY 1, 2, 3"
        return [
            Scored(row, number, name, value, bool(passed), reason)
            for row, number, name, value, passed, reason in self._connection.execute(query, (root,))
        ]

    def ended(self, root: int) -> Ended | None:
        """How a story ended; None if it goes on."""
        query = "SELECT row, outcome, rounds, reasons FROM story WHERE row = ?"
        values = self._connection.execute(query, (root,)).fetchone()
        return None if values is None else _ended(values)

    def ends(self) -> dict[tuple[str, int], int]:
        """How many stories ended, by outcome and rounds."""
        query = "SELECT outcome, rounds, count(*) FROM story GROUP BY outcome, rounds ORDER BY outcome, rounds"
        return {(outcome, rounds): count for outcome, rounds, count in self._connection.execute(query)}

    def place(self, root: int) -> tuple[str, int, int, int]:
        """(custom_id, line, offset, length) of an input row."""
        query = "SELECT custom_id, line, offset, length FROM request WHERE row = ?"
        custom_id, line, offset, length = self._connection.execute(query, (root,)).fetchone()
        return custom_id, line, offset, length

    def unjudged(self) -> list[int]:
        """Rows with a final word that nobody has judged: a run ended between the two."""
        return [row for (row,) in self._connection.execute(f"SELECT request.row {_UNJUDGED} ORDER BY request.row")]

    def refused(self) -> set[int]:
        """Input rows that were refused before anything of them was sent, and not judged."""
        query = (
            f"SELECT request.row {_UNJUDGED} AND parent IS NULL"
            " AND row IN (SELECT row FROM failure WHERE kind = 'refused') AND row NOT IN (SELECT row FROM attempt)"
        )
        return {row for (row,) in self._connection.execute(query)}

    def roots(self) -> Iterator[int]:
        """The input rows, in order."""
        for (row,) in self._connection.execute("SELECT row FROM request WHERE parent IS NULL ORDER BY row"):
            yield row

    def next_row(self) -> int:
        (found,) = self._connection.execute("SELECT coalesce(max(row) + 1, 0) FROM request").fetchone()
        return int(found)

    def flights(self) -> Iterator[tuple[int, str, float, float]]:
        """(session, key of the prompt, start, finish) of every attempt that ended, by session and start."""
        yield from self._connection.execute(
            "SELECT session, role, dispatched, finished FROM attempt JOIN request ON request.row = attempt.row"
            " WHERE finished IS NOT NULL ORDER BY session, dispatched"
        )


def has_unjudged(connection: sqlite3.Connection) -> bool:
    """Whether a final word waits to be judged."""
    (found,) = connection.execute(f"SELECT EXISTS (SELECT 1 {_UNJUDGED})").fetchone()
    return bool(found)


def _found(values: tuple[Any, ...]) -> Found:
    row, number, role, text, data, passed, value, merit, reasons = values
    return Found(
        row=row,
        number=number,
        role=role,
        text=text,
        data=msgspec.json.decode(data) if data is not None else {},
        passed=bool(passed),
        value=value,
        merit=merit,
        reasons=msgspec.json.decode(reasons, type=tuple[str, ...]),
    )


def _ended(values: tuple[Any, ...]) -> Ended:
    row, outcome, rounds, reasons = values
    return Ended(row, outcome, rounds, msgspec.json.decode(reasons, type=tuple[str, ...]))

"""The tables of a run's record, and how an older file becomes a newer one.

`request` is what was asked, `attempt` every try, `answer` and `failure` the one final word on a row. A row without
either is unfinished: there is no state column that could disagree. The triggers make the promises part of the file:
an answer is never changed, and never stands beside a failure.

Runs with a pipeline have three more. `item` is what was found in an answer: number 0 stands for the answer itself, so a
prompt was judged if it has one. `score` is what a validator said of an item, and `story` how it ended for an input row.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tokenmill.errors import UsageError

VERSION = 3

_FOOTPRINT = "CREATE TABLE footprint (session INTEGER PRIMARY KEY, facts BLOB NOT NULL);"
_STORIES = (
    "CREATE TABLE item (row INTEGER NOT NULL, number INTEGER NOT NULL, role TEXT NOT NULL, text TEXT NOT NULL,"
    " data BLOB, passed INTEGER NOT NULL, value REAL, merit REAL NOT NULL, reasons BLOB NOT NULL,"
    " PRIMARY KEY (row, number)) WITHOUT ROWID;",
    "CREATE TABLE score (row INTEGER NOT NULL, number INTEGER NOT NULL, validator TEXT NOT NULL, value REAL,"
    " passed INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (row, number, validator)) WITHOUT ROWID;",
    "CREATE TABLE story (row INTEGER PRIMARY KEY, outcome TEXT NOT NULL, rounds INTEGER NOT NULL,"
    " reasons BLOB NOT NULL);",
    "CREATE INDEX request_parent ON request (parent) WHERE parent IS NOT NULL;",
    "CREATE TRIGGER item_is_final BEFORE UPDATE ON item BEGIN SELECT RAISE(ABORT, 'an item never changes'); END;",
    "CREATE TRIGGER story_is_final BEFORE UPDATE ON story BEGIN SELECT RAISE(ABORT, 'a story ends once'); END;",
)
#: What makes an older file one of this version. No step takes anything away.
_STEPS = {2: (_FOOTPRINT,), 3: _STORIES}

_CREATE = """
CREATE TABLE request (
  row INTEGER PRIMARY KEY, custom_id TEXT NOT NULL, line INTEGER NOT NULL, offset INTEGER NOT NULL,
  length INTEGER NOT NULL, predicted REAL NOT NULL, grp INTEGER NOT NULL,
  parent INTEGER, round INTEGER NOT NULL DEFAULT 0, role TEXT NOT NULL DEFAULT '', body BLOB
);
CREATE TABLE attempt (
  id INTEGER PRIMARY KEY, row INTEGER NOT NULL, lease INTEGER NOT NULL, node INTEGER NOT NULL,
  session INTEGER NOT NULL, dispatched REAL NOT NULL, outcome TEXT, finished REAL, first_token REAL,
  prompt_tokens INTEGER, output_tokens INTEGER, itl_sum REAL, itl_max REAL, chunks INTEGER,
  width_mean REAL, width_max INTEGER, kind TEXT, message TEXT
);
CREATE TABLE answer (
  row INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
  prompt_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, flags TEXT NOT NULL
);
CREATE TABLE failure (
  row INTEGER PRIMARY KEY, attempt INTEGER, kind TEXT NOT NULL, message TEXT NOT NULL
);
CREATE TABLE session (
  number INTEGER PRIMARY KEY, started_at TEXT NOT NULL, pid INTEGER NOT NULL, ended REAL, outcome TEXT
);
CREATE TABLE node (
  session INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, facts BLOB NOT NULL,
  PRIMARY KEY (session, number)
) WITHOUT ROWID;
CREATE TABLE span (
  session INTEGER NOT NULL, node INTEGER NOT NULL, kind TEXT NOT NULL, start REAL NOT NULL, finish REAL
);
CREATE TRIGGER answer_is_final BEFORE UPDATE ON answer BEGIN SELECT RAISE(ABORT, 'an answer never changes'); END;
CREATE TRIGGER answer_stays BEFORE DELETE ON answer BEGIN SELECT RAISE(ABORT, 'an answer is never removed'); END;
CREATE TRIGGER one_final_word BEFORE INSERT ON failure
  WHEN EXISTS (SELECT 1 FROM answer WHERE answer.row = NEW.row)
  BEGIN SELECT RAISE(ABORT, 'an answered row can not fail'); END;
CREATE TRIGGER one_final_answer BEFORE INSERT ON answer
  WHEN EXISTS (SELECT 1 FROM failure WHERE failure.row = NEW.row)
  BEGIN SELECT RAISE(ABORT, 'a failed row can not be answered'); END;
"""


def create(connection: sqlite3.Connection) -> None:
    """Makes the tables in an empty file."""
    connection.executescript(
        f"BEGIN; {_CREATE} {_FOOTPRINT} {' '.join(_STORIES)} PRAGMA user_version = {VERSION}; COMMIT;"
    )


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuses a file that is no record, or was written by a newer version; brings an older one up to this."""
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{path}: not a readable record ({error}); restore the run folder from a copy") from error
    if version > VERSION:
        raise UsageError(f"{path}: written by a newer tokenmill (format {version}, this one reads {VERSION}); upgrade")
    if version < 1:
        raise UsageError(f"{path}: not a tokenmill record; name a folder made by 'tokenmill run'")
    if version < VERSION:
        _upgrade(connection)


def _upgrade(connection: sqlite3.Connection) -> None:
    """All steps in one transaction, from the version that is there once nobody else writes."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for number in range(version + 1, VERSION + 1):
            for statement in _STEPS[number]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {max(version, VERSION)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")

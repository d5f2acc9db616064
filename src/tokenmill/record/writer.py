"""The one writer of a record: a thread that owns the connection, and a thread that makes commits durable.

Three words are kept apart. *Recorded*: queued here, in order. *Written*: its transaction is in the write-ahead log,
so it survives a kill; a dispatch must get this far before the engine sees it. *Committed*: also synced, so it
survives power loss; anything that leaves the run waits for this. With durability `process`, written is committed.

SQLite runs with `synchronous=NORMAL`, where a commit doesn't sync, and the second thread calls `fdatasync` on the
log: a slot is refilled after a write and never waits for that sync. The second thread folds the log into the database
as well, once every FOLD_AFTER bytes. The two take turns then: SQLite before 3.51.3 may lose a write that meets the
restart of the log, and a record is worth more than the hundredths of a second that a slot waits.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from tokenmill.errors import StorageError
from tokenmill.event import Answer
from tokenmill.record.place import shared_kind
from tokenmill.request import Usage

FOLD_AFTER = 32 << 20
#: What a connection keeps of the record in memory. A run reads and writes what is new, so more wouldn't be used again.
CACHE_KIB = 4096
#: Seconds to wait for a record that another process has to itself.
SHARED_WAIT = 3.0
#: Seconds between two transactions at least. What comes meanwhile goes into the next one together: waking a thread and
#: a transaction for each entry takes more of the processor than the entries do. After a pause nothing waits.
GATHER = 0.002

Parameters = tuple[object, ...]

STATEMENTS = {
    "session": "INSERT INTO session (number, started_at, pid) VALUES (?, ?, ?)",
    "request": "INSERT INTO request VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "node": "INSERT OR REPLACE INTO node VALUES (?, ?, ?, ?)",
    "span": "INSERT INTO span VALUES (?, ?, ?, ?, ?)",
    "dispatched": "INSERT INTO attempt (id, row, lease, node, session, dispatched) VALUES (?, ?, ?, ?, ?, ?)",
    "answered": (
        "UPDATE attempt SET outcome = 'answered', finished = ?, first_token = ?, prompt_tokens = ?, output_tokens = ?,"
        " itl_sum = ?, itl_max = ?, chunks = ?, width_mean = ?, width_max = ? WHERE id = ?"
    ),
    "answer": "INSERT INTO answer VALUES (?, ?, ?, ?, ?, ?, ?)",
    "ended": (
        "UPDATE attempt SET outcome = ?, finished = ?, kind = ?, message = ?, prompt_tokens = ?, output_tokens = ?"
        " WHERE id = ?"
    ),
    "failure": "INSERT INTO failure VALUES (?, ?, ?, ?)",
    "item": "INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "score": "INSERT INTO score VALUES (?, ?, ?, ?, ?, ?)",
    "story": "INSERT INTO story VALUES (?, ?, ?, ?)",
    "footprint": "INSERT OR REPLACE INTO footprint VALUES (?, ?)",
    "session_ended": "UPDATE session SET ended = ?, outcome = ? WHERE number = ?",
}


class Writer:
    """Takes events in order and puts them into the record.

    `on_written` and `on_committed` are called from the threads with the number of the last entry that got there,
    `on_error` once with the error after which nothing more is written, and `before_close` by who closes this, for the
    last that there is to put here.
    """

    def __init__(
        self,
        path: Path,
        *,
        durability: str,
        on_written: Callable[[int], None],
        on_committed: Callable[[int], None],
        on_error: Callable[[StorageError], None],
        before_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._full = durability == "full"
        self._on_written, self._on_committed, self._on_error = on_written, on_committed, on_error
        self._before_close = before_close
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._queue: list[tuple[str, Parameters]] = []
        self._recorded = 0
        self._written = 0
        self._work = threading.Event()
        self._unsynced = threading.Event()
        self._closing = False
        self._drained = False
        self._failed: StorageError | None = None
        self._threads = [
            threading.Thread(target=self._guarded, args=(self._write_forever,), name="record-writer", daemon=True),
            threading.Thread(target=self._guarded, args=(self._sync_forever,), name="record-syncer", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def put(self, *entries: tuple[str, Parameters]) -> int:
        """Queues entries that become durable together; returns the number of the last one."""
        with self._lock:
            self._queue.extend(entries)
            self._recorded += len(entries)
            number = self._recorded
        if not self._work.is_set():  # the writer clears it before it takes what is queued
            self._work.set()
        return number

    def dispatched(self, attempt: int, row: int, lease: int, node: int, session: int, time: float) -> int:
        return self.put(("dispatched", (attempt, row, lease, node, session, time)))

    def finished(self, attempt: int, row: int, time: float, answer: Answer, *more: tuple[str, Parameters]) -> int:
        """Records an answer, and in the same transaction the rows that it gave rise to."""
        measured = (
            time,
            answer.first_token,
            answer.prompt_tokens,
            answer.output_tokens,
            answer.itl_sum,
            answer.itl_max,
            answer.chunks,
            answer.width_mean,
            answer.width_max,
            attempt,
        )
        flags = ",".join(answer.flags)
        said = (row, attempt, answer.text, answer.finish_reason, answer.prompt_tokens, answer.output_tokens, flags)
        return self.put(("answered", measured), ("answer", said), *more)

    def ended(
        self, attempt: int, outcome: str, time: float, kind: str = "", message: str = "", used: Usage | None = None
    ) -> int:
        """Records an attempt without an answer: `failed` or `cancelled`, and what it cost all the same."""
        read, written = (used.prompt_tokens, used.output_tokens) if used is not None else (None, None)
        return self.put(("ended", (outcome, time, kind, message, read, written, attempt)))

    def set_aside(self, row: int, attempt: int | None, kind: str, reason: str) -> int:
        return self.put(("failure", (row, attempt, kind, reason)))

    def close(self) -> None:
        """Writes and syncs what is queued, folds the log into the database and ends the threads."""
        self._before_close()
        self._closing = True
        self._work.set()
        for thread in self._threads:
            thread.join()
        if self._failed is not None:
            raise self._failed

    def _guarded(self, body: Callable[[sqlite3.Connection], None]) -> None:
        """Runs one thread; any error ends both, as a run would wait for ever for a thread that is gone.

        A failed sync is never tried again.
        """
        try:
            connection = connect(self._path)
            try:
                body(connection)
            finally:
                connection.close()
        except Exception as error:  # noqa: BLE001 - of the disk, of SQLite, or of a value that can't be stored
            failed = StorageError(f"{self._path}: can't write the record ({error}); what was committed is kept")
            failed.__cause__ = error
            self._failed = failed
            self._drained = True
            self._work.set()
            self._unsynced.set()
            self._on_error(failed)

    def _write_forever(self, connection: sqlite3.Connection) -> None:
        while self._failed is None and not (self._closing and not self._queue):
            self._work.wait()
            self._work.clear()
            self._write_batch(connection)
            time.sleep(GATHER)
        self._drained = True
        self._unsynced.set()

    def _write_batch(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            batch, self._queue = self._queue, []
            number = self._recorded
        if not batch:
            return
        by_kind: dict[str, list[Parameters]] = {}
        for kind, parameters in batch:
            by_kind.setdefault(kind, []).append(parameters)
        with self._turn:
            connection.execute("BEGIN IMMEDIATE")
            for kind, statement in STATEMENTS.items():  # in this order: an attempt exists before it ends
                if kind in by_kind:
                    connection.executemany(statement, by_kind[kind])
            connection.execute("COMMIT")
        self._written = number
        self._on_written(number)
        if not self._full:
            self._on_committed(number)
        self._unsynced.set()

    def _sync_forever(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA busy_timeout = 0")  # folding doesn't wait for a reader; it is tried again later
        committed = folded_at = 0
        log: int | None = None
        try:
            while self._failed is None and not (self._drained and committed == self._written):
                self._unsynced.wait()
                self._unsynced.clear()
                number = self._written
                if number > committed:
                    if self._full:
                        log = open_log(self._path) if log is None else log
                        if log is not None:
                            os.fdatasync(log)
                        self._on_committed(number)
                    committed = number
                if _log_size(self._path) - folded_at > FOLD_AFTER:
                    with self._turn:
                        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                    folded_at = _log_size(self._path)
        finally:
            if log is not None:
                os.close(log)


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose transactions are begun and ended by hand; the write-ahead log is never folded on its own.

    Where other hosts may see the file it is kept in another way: the log needs memory that all who open it share. Then
    SQLite keeps its rollback journal, every commit syncs by itself, and one process at a time has the file to itself,
    so that no host works with what another has changed; connections of that process still share it (`unix-excl`).
    """
    if shared_kind(path.parent):
        address = f"file:{quote(str(path.absolute()))}?vfs=unix-excl"
        connection = sqlite3.connect(
            address, uri=True, isolation_level=None, timeout=SHARED_WAIT, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = FULL")
    else:
        connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection


def _log_size(path: Path) -> int:
    try:
        return Path(f"{path}-wal").stat().st_size
    except FileNotFoundError:
        return 0


def open_log(path: Path) -> int | None:
    """Closing this descriptor drops no lock: SQLite locks the database and its shared-memory file, not the log."""
    try:
        return os.open(f"{path}-wal", os.O_RDONLY)
    except FileNotFoundError:
        return None

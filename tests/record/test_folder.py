"""Run folders: published whole, locked by one process, found by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from record.filled import fill, manifest
from tokenmill.errors import UsageError
from tokenmill.record import folder as folders
from tokenmill.record.lock import RunLock, is_locked
from tokenmill.record.store import Record


def test_a_run_exists_only_when_it_is_whole(tmp_path: Path) -> None:
    """While it is prepared a run is neither listed nor found; published, it is both, for its owner alone."""
    prepared = folders.prepare(tmp_path, "r")
    fill(prepared / "record.db", {}).close()
    assert folders.list_runs(tmp_path) == []

    published = folders.publish(prepared, manifest("r"))

    assert folders.list_runs(tmp_path) == [published]
    assert folders.find(tmp_path, "last") == folders.find(tmp_path, "r") == published
    assert folders.read_manifest(published) == manifest("r")
    assert published.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "x" * 101, "-o"])
def test_a_run_id_is_a_plain_name(tmp_path: Path, name: str) -> None:
    """A name that would leave the folder, hide or look like an option is refused."""
    with pytest.raises(UsageError, match="run id"):
        folders.prepare(tmp_path, name)


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    """A second run of a name is told how to go on with the first."""
    folders.publish(folders.prepare(tmp_path, "r"), manifest("r"))
    with pytest.raises(UsageError, match="tokenmill resume r"):
        folders.prepare(tmp_path, "r")


def test_what_a_dead_process_left_is_removed(tmp_path: Path) -> None:
    """Abandoned preparations go; those of a living process stay."""
    mine = folders.prepare(tmp_path, "mine")
    dead = tmp_path / ".dead.999999999.new"
    dead.mkdir()

    assert folders.remove_abandoned(tmp_path) == 1
    assert mine.exists()
    assert not dead.exists()


def test_one_process_on_a_run(tmp_path: Path) -> None:
    """A lock that is held refuses a second holder by pid, and ends with its owner."""
    lock = RunLock(tmp_path)
    assert is_locked(tmp_path)
    with pytest.raises(UsageError, match=f"process {os.getpid()}, started"):
        RunLock(tmp_path)
    lock.release()
    assert not is_locked(tmp_path)
    RunLock(tmp_path).release()


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    """Garbage, an empty file and a newer format are each named with a way out."""
    path = tmp_path / "record.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(UsageError, match="not a readable record"):
        Record(path)
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="not a tokenmill record"):
        Record(path)
    path.unlink()
    Record.create(path).close()
    import sqlite3

    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UsageError, match="newer"):
        Record(path)

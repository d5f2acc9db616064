"""A sweep's folder: what a crash leaves of it, who may write to it, and what it says when it can't be used."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.bench.cell import Reading
from tokenmill.bench.folder import READINGS, SweepFolder, find_sweep, sweeps_folder
from tokenmill.bench.strategies import StrategiesOptions
from tokenmill.bench.sweep import carry_on
from tokenmill.errors import StorageError, UsageError
from tokenmill.record.lock import RunLock

MEASURED = [
    Reading(cell="pull 2", repeat=repeat, seconds=repeat + 0.5, requests=1, answered=1, digest="\u00e9\n")
    for repeat in range(3)
]
LAST = MEASURED[-1]
LINES = [msgspec.json.encode(each) + b"\n" for each in MEASURED]
WHOLE = b"".join(LINES)


def new(where: Path, **options: str) -> SweepFolder:
    chosen = StrategiesOptions(engine="scripted", **options)
    return SweepFolder.create(where, "strategies", msgspec.to_builtins(chosen), repeats=1, seed=0, targets=())


@given(st.integers(0, len(WHOLE)))
def test_a_torn_end_is_dropped_and_cut(cut: int) -> None:
    """Cut at any byte, the file gives its whole lines alone, and the next reading isn't glued to the rest."""
    with tempfile.TemporaryDirectory() as place:
        folder = SweepFolder(Path(place))
        (folder.path / READINGS).write_bytes(WHOLE[:cut])
        before = MEASURED[: WHOLE[:cut].count(b"\n")]
        assert folder.readings() == before
        more = msgspec.structs.replace(LAST, repeat=7)

        folder.add(more)

        assert folder.readings() == [*before, more]
        assert len((folder.path / READINGS).read_bytes().splitlines()) == len(before) + 1


@given(st.integers(0, len(LINES[1]) - 2), st.sampled_from([b"", b"\xff", b"{}", b"\x00\x00"]))
def test_a_torn_line_in_the_middle_is_an_error(cut: int, more: bytes) -> None:
    """What no crash leaves behind is not passed over: file, line and the way out are named."""
    with tempfile.TemporaryDirectory() as place:
        folder = SweepFolder(Path(place))
        (folder.path / READINGS).write_bytes(LINES[0] + LINES[1][:cut] + more + b"\n" + LINES[2])

        with pytest.raises(UsageError, match=rf"{READINGS}, line 2: .*; remove that line"):
            folder.readings()


def test_a_cell_read_again_counts_once(tmp_path: Path) -> None:
    """The later reading of a cell and repeat takes the place of the one with a fault."""
    folder = SweepFolder(tmp_path)
    again = msgspec.structs.replace(MEASURED[0], seconds=9.0)
    for each in (Reading(cell="pull 2", repeat=0, fault="killed"), MEASURED[1], again):
        folder.add(each)

    assert folder.readings() == [MEASURED[1], again]


def test_a_sweep_has_one_owner(tmp_path: Path) -> None:
    """A second process is refused by name while the first one measures."""
    folder = new(tmp_path)
    lock = RunLock(folder.path)
    try:
        with pytest.raises(UsageError, match=f"in use by process {os.getpid()}.*; wait for it"):
            carry_on(folder, lambda step: None)
    finally:
        lock.release()
    assert folder.readings() == []


def test_what_cannot_be_written_stops_the_sweep(tmp_path: Path) -> None:
    """An error of the system names the file and ends with the code of what can go on."""
    (tmp_path / READINGS).mkdir()

    with pytest.raises(StorageError, match=f"{READINGS}: can't be written .*; what was measured is kept") as raised:
        SweepFolder(tmp_path).add(LAST)
    assert raised.value.exit_code == 4


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Readings that are there but can't be read are not taken for none."""
    (tmp_path / READINGS).mkdir()

    with pytest.raises(UsageError, match=f"{READINGS}: can't be read"):
        SweepFolder(tmp_path).readings()


def test_a_place_that_takes_no_folder_is_refused(tmp_path: Path) -> None:
    """The way out is another --bench-dir, and nothing is left of the try."""
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match=r"can't be made .*; use --bench-dir"):
        new(tmp_path / "file")


def test_a_sweep_is_found_by_id_path_and_last(tmp_path: Path) -> None:
    """An unknown one is refused with those that there are."""
    first, second = new(tmp_path / "sweeps"), new(tmp_path / "sweeps")
    os.utime(first.path / "manifest.json", (1, 1))
    where = tmp_path / "sweeps"

    assert find_sweep(where, first.path.name).path == first.path
    assert find_sweep(tmp_path, str(second.path)).path == second.path
    with pytest.raises(UsageError, match=rf"no sweep 'foo' in .*; the last ones: .*{first.path.name}"):
        find_sweep(where, "foo")
    with pytest.raises(UsageError, match=r"no sweep 'last' in .*; the last ones: none"):
        find_sweep(tmp_path / "none", "last")
    with pytest.raises(UsageError, match="no sweep"):
        find_sweep(where, "x" * 5000)


def test_a_manifest_that_is_none_is_refused(tmp_path: Path) -> None:
    """A folder with another manifest is no sweep."""
    (tmp_path / "manifest.json").write_text(json.dumps({"sweep": 3}))

    with pytest.raises(UsageError, match=r"is no sweep .*; give the folder of one"):
        _ = SweepFolder(tmp_path).plan


def test_the_folder_of_sweeps_is_chosen_then_the_environment_then_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option wins over TOKENMILL_BENCH, which wins over the user's state folder."""
    monkeypatch.setenv("TOKENMILL_BENCH", str(tmp_path / "named"))
    assert sweeps_folder(tmp_path) == tmp_path
    assert sweeps_folder(None) == tmp_path / "named"
    monkeypatch.delenv("TOKENMILL_BENCH")
    assert sweeps_folder(None).name == "bench"

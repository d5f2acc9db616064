"""Standard input, Python rows and built-ins: inputs that are spooled, and files that may change."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenmill.errors import InputFaults, UsageError
from tokenmill.workload import (
    ROWS,
    InputChanged,
    Reader,
    Spec,
    check_grown,
    check_unchanged,
    scan,
)
from workload.reading import jsonl, python_requests, requests, scanned, write

STDIN = Spec(source="-")


@pytest.mark.parametrize(
    ("content", "name"), [(b"a\r\n\nb", "input.txt"), (jsonl({"prompt": "a"}, {"prompt": "b"}).encode(), "input.jsonl")]
)
def test_standard_input_is_copied_byte_for_byte(tmp_path: Path, content: bytes, name: str) -> None:
    """What is piped in lies in the spool as it came, so that lines and offsets hold."""
    entries, source = scanned(STDIN, tmp_path, stdin=content)
    copy = tmp_path / "spool" / name

    assert copy.read_bytes() == content
    assert source.source is None
    assert source.sha256 == hashlib.sha256(content).hexdigest()
    assert copy.stat().st_mode & 0o777 == 0o600
    with Reader(STDIN, source) as reader:
        prompts = [reader.request(e.row, e.custom_id, e.offset, e.length, e.line).prompt for e in entries]
    assert prompts == ["a", "b"]


def test_standard_input_is_read_no_further_than_the_limit(tmp_path: Path) -> None:
    """A stream without end can be used with a limit."""
    assert len(requests(Spec(source="-", limit=3), tmp_path, stdin=b"y\n" * 10_000_000)) == 3
    assert (tmp_path / "spool" / "input.txt").read_bytes() == b"y\n" * 3


def test_standard_input_can_be_csv_but_not_parquet(tmp_path: Path) -> None:
    """A format is taken at its word for a stream too; Parquet needs a file."""
    spec = Spec(source="-", format="csv")
    assert [r.prompt for r in requests(spec, tmp_path, stdin=b"id,prompt\n1,a\n2,b\n")] == ["a", "b"]
    with pytest.raises(InputFaults, match="standard input: Parquet can't be piped in; name the file"):
        scanned(STDIN, tmp_path, stdin=b"PAR1....")


def test_faults_of_standard_input_leave_nothing_behind(tmp_path: Path) -> None:
    """A refused stream is not left half in the spool."""
    with pytest.raises(InputFaults, match=r"^standard input: line 2"):
        scanned(STDIN, tmp_path, stdin=b"a\n\xff\n")
    assert list((tmp_path / "spool").iterdir()) == []


def test_an_abandoned_scan_leaves_nothing_behind(tmp_path: Path) -> None:
    """A consumer that stops early leaves no partial spool and no open file."""
    iterator = iter(scan(Spec(source="sentences"), tmp_path))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_python_rows_are_taken_one_at_a_time(tmp_path: Path) -> None:
    """A generator is consumed as the scan goes; str and dict rows mix."""
    taken = []

    def rows() -> Iterator[object]:
        for row in (
            "a",
            {"prompt": "b", "custom_id": "x", "seed": 1},
            {"messages": [{"role": "user", "content": "c"}]},
        ):
            taken.append(row)
            yield row

    seen = [(entry.custom_id, len(taken)) for entry in scan(Spec(source=ROWS), tmp_path, rows=rows())]
    assert seen == [("row-1", 1), ("x", 2), ("row-3", 3)]


def test_python_rows_are_held_to_the_same_rules(tmp_path: Path) -> None:
    """Rows that are no JSON objects, or break a rule, are reported together with their number."""
    rows = ["ok", 5, {"prompt": float("nan")}, {1: "a"}, {"prompt": {1, 2}}, "half \ud83d", "", {"prompt": "a", "n": 2}]
    with pytest.raises(InputFaults) as caught:
        python_requests(rows, tmp_path)

    causes = ["must be a str or a dict, not int", "not JSON compliant", "field name 1 must be a str", "set is not JSON"]
    causes += ["lone surrogate", "the prompt is empty", "n 2 is not supported"]
    assert [text.split(":")[0] for text in caught.value.faults] == [f"row {number}" for number in range(2, 9)]
    for text, cause in zip(caught.value.faults, causes, strict=True):
        assert cause in text


def test_python_rows_and_their_source_go_together(tmp_path: Path) -> None:
    """Rows with another source, or the source without rows, are a usage error."""
    with pytest.raises(UsageError, match="go with source '<rows>'"):
        scanned(Spec(source=ROWS), tmp_path)
    with pytest.raises(UsageError, match="go with source '<rows>'"):
        scanned(Spec(source="sentences"), tmp_path, rows=["a"])


def test_a_spool_that_can_not_be_written_is_a_usage_error(tmp_path: Path) -> None:
    """The error names the file and the way out."""
    write(tmp_path, "", "spool")
    with pytest.raises(UsageError, match=r"input\.jsonl can't be written \(.*\); free space or choose another"):
        scanned(Spec(source="sentences"), tmp_path)


def test_a_full_disk_is_a_usage_error_and_leaves_nothing(tmp_path: Path) -> None:
    """Nothing was sent yet, so a spool that doesn't fit refuses the run."""
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "input.jsonl.partial").symlink_to("/dev/full")
    with pytest.raises(UsageError, match=r"can't be written \(No space left on device\); free space"):
        scanned(Spec(source="texts"), tmp_path)
    assert list(spool.iterdir()) == []


class FailingStream(io.RawIOBase):
    """Gives one line, then fails as a broken disk does."""

    def __init__(self, first: bytes) -> None:
        self.left = first

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        if not self.left:
            raise OSError(errno.EIO, "Input/output error")
        buffer[: len(self.left)], size, self.left = self.left, len(self.left), b""
        return size


@pytest.mark.parametrize("first", [b"", b"a line\n"])
def test_a_stream_that_breaks_off_is_refused(tmp_path: Path, first: bytes) -> None:
    """An error of the system while reading is a fault of the input, whenever it comes."""
    stream = io.BufferedReader(FailingStream(first))
    with pytest.raises(InputFaults, match=r"standard input: can't be read \(Input/output error\)"):
        list(scan(STDIN, tmp_path / "spool", stdin=stream))


def test_a_closed_standard_input_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a stream there is one line that says so."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputFaults, match="standard input: is closed; name a file or pipe rows in"):
        scanned(STDIN, tmp_path)


def test_an_unchanged_file_passes_even_if_touched(tmp_path: Path) -> None:
    """Content decides, not the time of change."""
    path = write(tmp_path, "a\nb\n", "in.txt")
    _, source = scanned(Spec(source=str(path)), tmp_path)
    check_unchanged(source.data)
    os.utime(path, ns=(0, 0))
    check_unchanged(source.data)


@pytest.mark.parametrize(("content", "text"), [("a\nB\n", "differs at the same size"), ("a\n", "2 bytes and had 4")])
def test_an_edited_file_is_noticed(tmp_path: Path, content: str, text: str) -> None:
    """An edit between run and resume is refused with what changed and what to do."""
    path = write(tmp_path, "a\nb\n", "in.txt")
    _, source = scanned(Spec(source=str(path)), tmp_path)
    write(tmp_path, content, "in.txt")
    os.utime(path, ns=(0, 0))
    with pytest.raises(InputChanged, match=f"{text}; put the old file back or start a new run"):
        check_unchanged(source.data)
    path.unlink()
    with pytest.raises(InputChanged, match="can't be read any more"):
        check_unchanged(source.data)


@pytest.mark.parametrize(
    ("before", "after", "fine"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "a\nb\nc\n", True),
        ("a\nb", "a\nb\nc\n", True),
        ("a\nb", "a\nb\r\nc\n", True),
        ("a\nb", "a\nbc\n", False),
        ("a\nb\n", "a\nB\nc\n", False),
        ("a\nb\n", "a\n", False),
    ],
)
def test_only_an_appended_file_has_grown(tmp_path: Path, before: str, after: str, fine: bool) -> None:
    """A run can be extended if whole lines were added behind the old content, and in no other case."""
    path = write(tmp_path, before, "in.txt")
    old, source = scanned(Spec(source=str(path)), tmp_path)
    write(tmp_path, after, "in.txt")
    if not fine:
        with pytest.raises(InputChanged):
            check_grown(source.data)
        return
    check_grown(source.data)
    new, _ = scanned(Spec(source=str(path)), tmp_path)
    assert new[: len(old)] == old


def test_a_file_written_to_during_the_scan_is_refused(tmp_path: Path) -> None:
    """Rows and hash would not belong together, so the scan says so."""
    path = write(tmp_path, "a\nb\n", "in.txt")
    with pytest.raises(InputFaults, match="was written to while it was read"):
        for _ in scan(Spec(source=str(path)), tmp_path):
            path.write_bytes(path.read_bytes() + b"more\n")
    with pytest.raises(InputFaults, match="was written to while it was read"):
        for _ in scan(Spec(source=str(write(tmp_path, "prompt\na\n", "in.csv"))), tmp_path):
            write(tmp_path, "prompt\n", "in.csv")


def test_the_reader_notices_a_row_that_is_no_longer_there(tmp_path: Path) -> None:
    """A row that is gone, broken or another's is an error at dispatch, never a wrong prompt."""
    rows = jsonl({"custom_id": "a", "prompt": "x"}, {"custom_id": "b", "prompt": "y"})
    spec = Spec(source=str(write(tmp_path, rows)))
    entries, source = scanned(spec, tmp_path)
    last = entries[-1]
    for content, text in [
        (rows.replace('"b"', '"c"'), "line 2 changed since the run began: it has custom_id 'c' and had 'b'"),
        (rows.replace('"y"', "5  "), "line 2 changed since the run began: prompt must be a string"),
        (rows[:-5], "line 2 changed since the run began: the file ends before it"),
    ]:
        write(tmp_path, content)
        with Reader(spec, source) as reader, pytest.raises(InputChanged, match=text):
            reader.request(last.row, last.custom_id, last.offset, last.length, last.line)
    Path(spec.source).unlink()
    with pytest.raises(InputChanged, match="can't be read any more"):
        Reader(spec, source)

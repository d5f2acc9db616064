"""Plain text: one prompt a line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tokenmill.errors import InputFaults, UsageError
from tokenmill.request import Message, Sampling
from tokenmill.workload import Spec
from tokenmill.workload.lines import MAX_LINE
from workload.reading import fault, faults, requests, scanned, write


def prompts(content: bytes, folder: Path, **options: object) -> list[str | None]:
    spec = Spec(source=str(write(folder, content, "in.txt")), **options)  # type: ignore[arg-type]
    return [request.prompt for request in requests(spec, folder)]


def test_blank_lines_are_no_rows_and_line_ends_are_no_text(tmp_path: Path) -> None:
    """LF, CRLF, blank lines and a missing last line end all give the same prompts."""
    assert prompts(b"one\r\n\n  \r\n two \nthree", tmp_path) == ["one", " two ", "three"]


def test_lines_and_offsets_count_blank_lines_and_the_byte_order_mark(tmp_path: Path) -> None:
    """A row's line and offset are those of the file, its id counts rows from 1."""
    path = write(tmp_path, b"\xef\xbb\xbfone\n\ntwo\n", "in.txt")
    entries, _ = scanned(Spec(source=str(path)), tmp_path)

    places = [(e.row, e.custom_id, e.line, e.offset, e.length) for e in entries]
    assert places == [(0, "row-1", 1, 3, 3), (1, "row-2", 3, 8, 3)]


def test_hash_covers_the_whole_file_even_under_a_limit(tmp_path: Path) -> None:
    """With a limit the rest of the file is still part of what the run was started with."""
    path = write(tmp_path, b"\xef\xbb\xbfone\n\ntwo\nthree", "in.txt")
    entries, source = scanned(Spec(source=str(path), limit=2), tmp_path)

    assert len(entries) == 2
    assert source.source == source.data
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.data.size == path.stat().st_size


def test_bytes_that_are_no_text_are_named_with_their_place(tmp_path: Path) -> None:
    """NUL and bytes outside UTF-8 are refused with line and byte, and reported together."""
    found = faults(b"good\nb\xffd\ngood\nn\x00l\n\xed\xa0\x80\n", tmp_path, "in.txt")

    assert [text.split(";")[0] for text in found] == [
        "line 2: byte 6 (0xff) is not UTF-8",
        "line 4: byte 15 is NUL",
        "line 5: byte 18 (0xed) is not UTF-8",
    ]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("hello".encode("utf-16"), "UTF-16"),
        ("hello".encode("utf-32"), "UTF-32"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"PAR1abc", "a Parquet file"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path: Path, content: bytes, name: str) -> None:
    """A file that is no UTF-8 text is named as what it is, not as broken lines."""
    assert f"this is {name}" in fault(content, tmp_path, "in.txt")


def test_line_over_the_cap_is_skipped_and_reported(tmp_path: Path) -> None:
    """A line longer than the cap is a fault of its own; the lines around it are still read."""
    content = b"a\n" + b"x" * (MAX_LINE + 1) + b"\nb\n" + b"y" * (2 * MAX_LINE) + b"\n\x00\n"
    found = faults(content, tmp_path, "in.txt")

    assert [text[:14] for text in found] == ["line 2: is lon", "line 4: is lon", "line 5: byte 5"]


def test_line_of_exactly_the_cap_is_a_prompt(tmp_path: Path) -> None:
    """The cap itself is allowed, whatever the line's end."""
    for end in (b"\r\n", b"\n", b""):
        assert [len(prompt or "") for prompt in prompts(b"x" * MAX_LINE + end, tmp_path)] == [MAX_LINE]


def test_prompt_of_unicode_blanks_is_empty(tmp_path: Path) -> None:
    """A line of no-break spaces is a row without a prompt."""
    assert fault("\u00a0\u2003\n", tmp_path, "in.txt").startswith("line 1: the prompt is empty")


def test_system_and_sampling_reach_every_request(tmp_path: Path) -> None:
    """A system message turns a prompt into a conversation; the defaults are those of the spec."""
    path = write(tmp_path, "hi\n", "in.txt")
    sampling = Sampling(max_tokens=7, temperature=0.5)
    (request,) = requests(Spec(source=str(path), system="Be brief.", sampling=sampling), tmp_path)

    assert request.prompt is None
    assert request.messages == (Message("system", "Be brief."), Message("user", "hi"))
    assert request.sampling == sampling


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'\n {"prompt": "a"}\n', "a"),
        (b"[INST] hi [/INST]\n", "[INST] hi [/INST]"),
        (b"{braces} in a prompt\n", "{braces} in a prompt"),
    ],
)
def test_format_goes_by_content_where_the_suffix_says_nothing(tmp_path: Path, content: bytes, expected: str) -> None:
    """A file without a known suffix is JSONL if it begins with an object, else text."""
    path = write(tmp_path, content, "in.prompts")
    assert [request.prompt for request in requests(Spec(source=str(path)), tmp_path)] == [expected]


def test_missing_folder_pipe_and_empty_inputs_are_refused(tmp_path: Path) -> None:
    """Each source that can't be read has one line with cause and remedy."""
    import os

    os.mkfifo(tmp_path / "pipe")
    write(tmp_path, "", "empty.txt")
    write(tmp_path, "\n\n", "blank.txt")
    for name, text in {
        "none.txt": "no such file; check the path",
        ".": "is a folder; name one file",
        "pipe": "is not a regular file; pipe it and use -",
        "empty.txt": "holds no rows; add at least one",
        "blank.txt": "holds no rows; add at least one",
        "a\0b": "can't be read",
    }.items():
        with pytest.raises(InputFaults, match=text) as caught:
            scanned(Spec(source=str(tmp_path / name)), tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (Spec(source="a.txt", format="xml"), "format 'xml' is not known; known: txt, jsonl"),
        (Spec(source="a.txt", limit=0), "limit 0 leaves no rows"),
        (Spec(source="a.txt", template="{{ a }}", prompt_column="a"), "both a template and a prompt column"),
        (Spec(source="a.txt", format="openai", prompt_column="a"), "OpenAI batch lines hold their prompt"),
        (Spec(source="a.txt", sampling=Sampling(max_tokens=0)), "default sampling: max_tokens 0 is out of range"),
        (Spec(source="a.txt", bad_rows="skip"), "bad rows 'skip' is not known"),  # type: ignore[arg-type]
        (Spec(source="sentences", format="txt"), r"a file of that name is written \./sentences"),
    ],
)
def test_options_that_can_not_hold_are_refused_before_reading(tmp_path: Path, spec: Spec, text: str) -> None:
    """Wrong options are reported before the input is opened."""
    with pytest.raises(UsageError, match=text):
        scanned(spec, tmp_path)

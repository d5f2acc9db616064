"""JSON documents: a list of rows, or rows one after another, wherever the line ends fall."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.errors import InputFaults
from tokenmill.workload import Reader, Spec
from workload.reading import fault, faults, requests, scanned, write

SHAPES = st.sampled_from([{}, {"indent": 1}, {"ensure_ascii": False}, {"separators": (",", ":")}])
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
ROWS = st.lists(st.dictionaries(TEXT, VALUES | st.lists(VALUES, max_size=2), max_size=4), min_size=1, max_size=5)


@settings(deadline=None)
@given(ROWS, SHAPES, st.booleans(), st.booleans())
def test_rows_written_as_json_read_back_equal(
    rows: list[dict[str, object]], shape: dict[str, object], as_list: bool, marked: bool
) -> None:
    """Every row of a document reads back as itself, however it is laid out."""
    text = json.dumps(rows, **shape) if as_list else "\n".join(json.dumps(row, **shape) for row in rows)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write(folder, ("\ufeff" if marked else "") + text, "in.json")
        spec = Spec(source=str(path), format="json", template="{{ 1 }}", id_column=None)
        try:
            entries, found = scanned(spec, folder)
        except InputFaults:  # a name or an id that no row may have
            return
        with Reader(spec, found) as reader:
            assert [reader.fields(e.offset, e.length, e.line) for e in entries] == rows


PIECES = st.sampled_from(
    ["[", "]", "{", "}", ",", '"', '{"prompt": "a"}', "\n", " ", "1", "-", "tru", "\\", "é", "1e999"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=10).map("".join).map(str.encode) | st.binary(max_size=30))
def test_any_document_ends_in_rows_or_in_our_own_error(content: bytes) -> None:
    """Whatever a file holds, it is read or refused as an input, never with a traceback."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with suppress(InputFaults):
            requests(Spec(source=str(write(folder, content, "in.json"))), folder)


def test_a_plain_list_gives_prompts(tmp_path: Path) -> None:
    """Strings are prompts, as lines of a text file are."""
    path = write(tmp_path, '["Turn left.",\n "Turn right."]', "in.json")

    assert [request.prompt for request in requests(Spec(source=str(path)), tmp_path)] == ["Turn left.", "Turn right."]


def test_a_list_is_known_by_its_content(tmp_path: Path) -> None:
    """A file without a suffix, or standard input, that begins with a list of objects is a document."""
    content = b'[{"prompt": "a"},\n{"prompt": "b"}]\n'

    assert [r.prompt for r in requests(Spec(source=str(write(tmp_path, content, "in"))), tmp_path)] == ["a", "b"]
    assert [r.prompt for r in requests(Spec(source="-"), tmp_path, stdin=content)] == ["a", "b"]


def test_values_that_end_between_two_blocks_are_whole(tmp_path: Path) -> None:
    """Blocks of a document divide rows, characters and numbers anywhere; nothing is lost or doubled."""
    rows = [{"prompt": "ä€😀" * (n % 97 + 1), "n": 10**20 + n} for n in range(12_000)]
    path = write(tmp_path, json.dumps(rows, ensure_ascii=False), "in.json")
    spec = Spec(source=str(path), template="{{ prompt }}")
    entries, found = scanned(spec, tmp_path)
    with Reader(spec, found) as reader:
        read = [reader.fields(e.offset, e.length, e.line) for e in entries]

    assert path.stat().st_size > 2 << 20
    assert read == rows


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('[{"prompt": "a"}', "line 1, column 17: a comma or the end of the list must follow a row, the text ends"),
        ('[{"prompt": "a"},\n {"prompt": }]', "line 2, column 13: broken JSON: expecting value, found '}]'"),
        ('[{"prompt": "a"},]', "line 1, column 18: broken JSON: expecting value, found ']'"),
        ('[{"prompt": "a"}] x', "line 1, column 19: more text after the list"),
        ('[{"prompt": "a"} {"prompt": "b"}]', "a comma or the end of the list must follow a row, found '{'"),
        ("[5]", "line 1: a row must be an object or a string, not 5"),
        ('[{"prompt": "a", "prompt": "b"}]', "line 1: key 'prompt' occurs twice in one object; keep one"),
        ('[\n{"prompt": NaN}]', "line 2: NaN is not a JSON number"),
        (b'["\xff"]', "byte 2 (0xff) is not UTF-8; convert with iconv -t UTF-8"),
        ("[]", "holds no rows; add at least one"),
        ("", "holds no rows; add at least one"),
        (" \n", "holds no rows; add at least one"),
        ("[" * 5000, "nested more than 64 deep"),
        ('[{"prompt": ' + "[" * 100 + "]" * 100 + "}]", "nested more than 64 deep"),
    ],
)
def test_a_broken_document_is_refused_with_its_place(tmp_path: Path, content: str | bytes, told: str) -> None:
    """The line, the column and the remedy are named."""
    assert told in fault(content, tmp_path, "in.json")


def test_rows_at_fault_are_told_together(tmp_path: Path) -> None:
    """A fault inside a row doesn't hide those of others."""
    found = faults('[{"prompt": 1},\n{"prompt": "a", "prompt": "b"},\n7,\n{"prompt": "fine"}]', tmp_path, "in.json")

    assert [text.partition(":")[0] for text in found] == ["line 1", "line 2", "line 3"]


def test_a_document_is_not_kept_in_memory(tmp_path: Path) -> None:
    """A list on a single line takes the memory of its longest row."""
    import tracemalloc

    row = json.dumps({"custom_id": "@", "prompt": "x" * 400})
    path = write(tmp_path, "[" + ",".join(row.replace("@", f"id-{n}") for n in range(40_000)) + "]", "in.json")
    spec = Spec(source=str(path))
    scanned(Spec(source=str(path), limit=1), tmp_path)
    tracemalloc.start()
    try:
        from tokenmill.workload import scan

        count = sum(1 for _ in scan(spec, tmp_path / "spool"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == 40_000
    assert path.stat().st_size > 16 << 20
    assert peak < 11 << 20

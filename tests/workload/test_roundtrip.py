"""Properties: valid rows read back equal, and no bytes whatever end in anything but our own errors."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenmill.errors import InputFaults, TokenmillError
from tokenmill.request import Message, Request, Sampling
from tokenmill.workload import ROWS, Reader, Spec
from tokenmill.workload.ids import normal
from workload.reading import requests, scanned, write

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40).filter(lambda text: text.strip())
IDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), min_size=1, max_size=8).filter(
    lambda text: text.strip() and not text.startswith("row-")
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.integers(1, 2**31 - 1),
        "temperature": st.floats(0, 10),
        "top_p": st.floats(0, 1, exclude_min=True),
        "top_k": st.integers(0, 1000),
        "seed": st.integers(0, 2**63 - 1),
        "stop": TEXT | st.lists(TEXT, max_size=3),
    },
)
TURN = st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": TEXT})
ASKED = st.fixed_dictionaries({"prompt": TEXT}) | st.fixed_dictionaries({"messages": st.lists(TURN, min_size=1)})


def unique(ids: list[str]) -> bool:
    return len({normal(custom_id) for custom_id in ids}) == len(ids)


def expected(row: dict[str, object], number: int, custom_id: str) -> Request:
    """What a row must become, worked out from the row alone."""
    options = {name: row[name] for name in ("max_tokens", "temperature", "top_p", "top_k", "seed") if name in row}
    stop = row.get("stop", ())
    sampling = Sampling(**options, stop=(stop,) if isinstance(stop, str) else tuple(stop))  # type: ignore[arg-type]
    messages = tuple(Message(turn["role"], turn["content"]) for turn in row.get("messages", ()))  # type: ignore[attr-defined]
    prompt = row.get("prompt")
    assert prompt is None or isinstance(prompt, str)
    return Request(row=number, custom_id=custom_id, prompt=prompt, messages=messages, sampling=sampling)


@given(st.lists(st.tuples(IDS, ASKED, OPTIONS), min_size=1, max_size=8), st.booleans(), st.booleans(), st.booleans())
def test_rows_written_as_jsonl_read_back_equal(
    rows: list[tuple[str, dict[str, object], dict[str, object]]], escaped: bool, crlf: bool, handed: bool
) -> None:
    """Every valid row reads back as itself, by file or handed over in Python, with escapes or without."""
    if not unique([custom_id for custom_id, _, _ in rows]):
        return
    objects = [{"custom_id": custom_id, **asked, **options} for custom_id, asked, options in rows]
    wanted = [expected(row, number, rows[number][0]) for number, row in enumerate(objects)]
    end = "\r\n" if crlf else "\n"
    text = end.join(json.dumps(row, ensure_ascii=escaped) for row in objects)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if handed:
            assert requests(Spec(source=ROWS), folder, rows=objects) == wanted
        else:
            assert requests(Spec(source=str(write(folder, text))), folder) == wanted


@given(st.lists(TEXT.filter(lambda text: "\n" not in text and not text.endswith("\r")), min_size=1, max_size=8))
@example(["\ufeff\ufeffx"])
def test_prompts_written_as_text_read_back_equal(prompts: list[str]) -> None:
    """Every line of a text file is a prompt as it stands."""
    kept = [prompt for prompt in prompts if prompt.encode().strip()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write(folder, "\ufeff" + "\n".join(prompts), "in.txt")
        found = requests(Spec(source=str(path)), folder)
    assert [request.prompt for request in found] == kept


@given(st.lists(st.tuples(TEXT, TEXT, st.text(max_size=5)), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_rows_written_as_csv_read_back_equal(rows: list[tuple[str, str, str]], end: str) -> None:
    """Cells with separators, quotes and line ends come back as they were, prompts and other columns."""
    cells = [(f"id{number}", *row[:2]) for number, row in enumerate(rows)]
    out = io.StringIO()
    csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("key", "ask", "note"), *cells])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = Spec(source=str(write(folder, out.getvalue(), "in.csv")), prompt_column="ask", id_column="key")
        entries, source = scanned(spec, folder)
        with Reader(spec, source) as reader:
            fields = [reader.fields(e.offset, e.length, e.line) for e in entries]
            prompts = [reader.request(e.row, e.custom_id, e.offset, e.length, e.line).prompt for e in entries]
    assert [tuple(row.values()) for row in fields] == cells
    assert prompts == [ask for _, ask, _ in cells]


PIECES = st.sampled_from(
    [
        *(
            b'{"prompt": "a"}',
            b'{"prompt":',
            b'"',
            b"}",
            b"[",
            b"\n",
            b"\r\n",
            b"\x00",
            b"\xff",
            b"\xef\xbb\xbf",
            b"NaN",
        ),
        *(b",", b'{"messages": [{"role": "user", "content": "x"}]}', b'{"custom_id": "a", "prompt": "b"}', b"\\ud800"),
        *(b"1e999", b'{"prompt": "a", "max_tokens": "x"}', b"prompt,id\n", b'"a,"b', b"PAR1", b"9" * 200, b"\x1f\x8b"),
        *(b'{"body": {}, "method": "POST", "url": 5}', b'{"body": {"messages": 1}, "url": "/v1/chat/completions"}'),
    ]
)
ANY_BYTES = st.binary(max_size=60) | st.lists(PIECES | st.binary(max_size=4), max_size=12).map(b"".join)
ANY_SPEC = st.sampled_from(
    [
        {},
        {"format": "txt"},
        {"format": "jsonl"},
        {"format": "openai"},
        {"format": "csv"},
        {"format": "parquet"},
        {"format": "jsonl", "template": "{{ prompt[0] }}{{ row.id + 1 }}"},
        {"format": "csv", "prompt_column": "prompt", "id_column": "id"},
        {"bad_rows": "fail"},
        {"bad_rows": "fail", "format": "jsonl"},
        {"bad_rows": "fail", "format": "csv"},
    ]
)


def check_one_line_each(error: InputFaults) -> None:
    assert error.faults
    assert all("\n" not in text and len(text) < 1000 for text in error.faults)


@settings(max_examples=400)
@given(ANY_BYTES, ANY_SPEC, st.booleans())
def test_any_bytes_end_in_rows_or_in_our_own_error(content: bytes, options: dict[str, str], piped: bool) -> None:
    """Whatever a file holds, each row can be read again or the scan says in single lines what is wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = "-" if piped else str(write(folder, content, "in"))
        spec = Spec(source=source, **options)  # type: ignore[arg-type]
        stream = content if piped else None
        try:
            entries, read = scanned(spec, folder, stdin=stream)
        except InputFaults as error:
            check_one_line_each(error)
            return
        assert len({entry.custom_id for entry in entries}) == len(entries) == read.rows > 0
        with Reader(spec, read) as reader:
            for e in entries:
                if e.fault is None:
                    reader.request(e.row, e.custom_id, e.offset, e.length, e.line)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["custom_id", "prompt", "messages", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "model", "n"]
NAMES += ["tools", "body", "method", "url", "role", "content", "type"]


@settings(max_examples=400)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), JSON_VALUES, max_size=5), max_size=4))
def test_any_object_ends_in_rows_or_in_our_own_error(rows: list[dict[str, object]]) -> None:
    """Values of any type in any known field are accepted or refused, never a traceback."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            found = requests(Spec(source=ROWS), folder, rows=rows)
        except TokenmillError:
            return
        assert len(found) == len(rows)


def test_a_million_rows_are_not_kept(tmp_path: Path) -> None:
    """What a scan keeps per row is a few integers: under 60 bytes each, ids included."""
    import tracemalloc

    from tokenmill.workload import scan

    count = 20_000
    path = write(tmp_path, "".join(f'{{"custom_id": "id-{n}", "prompt": "{"x" * 200}"}}\n' for n in range(count)))
    for _ in scan(Spec(source=str(path), limit=1), tmp_path):  # imports and buffers are not rows
        pass
    tracemalloc.start()
    try:
        for _ in scan(Spec(source=str(path)), tmp_path):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000 + 60 * count


@pytest.mark.parametrize("source", ["sentences", "texts"])
def test_scanning_twice_gives_the_same(tmp_path: Path, source: str) -> None:
    """Entries and hash are a function of the input."""
    first, second = scanned(Spec(source=source), tmp_path / "a"), scanned(Spec(source=source), tmp_path / "b")
    assert first[0] == second[0]
    assert first[1].sha256 == second[1].sha256

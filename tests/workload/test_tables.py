"""CSV and Parquet: tables become rows with the same rules."""

from __future__ import annotations

import builtins
import csv
import datetime
import io
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokenmill.errors import UsageError
from tokenmill.request import Sampling
from tokenmill.workload import Reader, Spec
from tokenmill.workload.input import state_of
from workload.reading import fault, faults, requests, scanned, write


def csv_text(*rows: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def parquet(folder: Path, columns: dict[str, object]) -> Path:
    path = folder / "in.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_csv_cells_become_prompts_ids_and_options(tmp_path: Path) -> None:
    """Options are read from text; an empty cell is as if it were not there."""
    text = csv_text(
        ["custom_id", "prompt", "max_tokens", "temperature", "stop", "note"],
        ["a", "one, two", "5", "0.5", "END", "x"],
        ["b", 'say "hi"\nplease', "", "", "", ""],
    )
    first, second = requests(Spec(source=str(write(tmp_path, text, "in.csv"))), tmp_path)

    assert (first.custom_id, first.prompt) == ("a", "one, two")
    assert first.sampling == Sampling(max_tokens=5, temperature=0.5, stop=("END",))
    assert (second.prompt, second.sampling) == ('say "hi"\nplease', Sampling())


def test_csv_rows_keep_their_line_and_their_cells(tmp_path: Path) -> None:
    """The line is where a row begins in the CSV file; line ends and blank lines within a cell are kept."""
    path = write(tmp_path, '\ufeffid,q,n\r\n\r\n1,"a\r\n\r\nb",007\r\n2,c,\n', "in.csv")
    spec = Spec(source=str(path), prompt_column="q", id_column="id")
    entries, source = scanned(spec, tmp_path)

    assert [(entry.line, entry.custom_id) for entry in entries] == [(3, "1"), (6, "2")]
    assert source.source == state_of(path)
    with Reader(spec, source) as reader:
        first = reader.fields(entries[0].offset, entries[0].length, 3)
    assert first == {"id": "1", "q": "a\r\n\r\nb", "n": "007"}


def test_tsv_is_split_at_tabs(tmp_path: Path) -> None:
    """The suffix .tsv names the separator."""
    path = write(tmp_path, "id\tprompt\n1\ta, b\n", "in.tsv")
    assert [request.prompt for request in requests(Spec(source=str(path)), tmp_path)] == ["a, b"]


def test_csv_faults_are_reported_together(tmp_path: Path) -> None:
    """Ragged rows, bad bytes, broken quotes and bad options are all named with the line the row begins on."""
    content = (
        b'id,prompt,max_tokens\n1,a\n2,"b\n\xff",5\n3,c,many\n4,"d"e,5\n5,f\x00,5\n6,g,1,2\n7,,5\n8,ok,5\n9,"open,5\n'
    )
    found = faults(content, tmp_path, "in.csv")

    expected = [
        "line 2: has 2 cells and the header 3",
        "line 3: byte 30 (0xff) is not UTF-8",
        "line 5: max_tokens must be a whole number, not 'many'",
        "line 6: broken CSV",
        "line 7: byte ",
        "line 8: has 4 cells and the header 3",
        "line 9: the prompt is empty",
        "line 11: broken CSV (unexpected end of data)",
    ]
    assert [text[: len(start)] for text, start in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a,a\n1,2\n", "line 1: column 'a' occurs twice; rename one"),
        ("a,,c\n1,2,3\n", "line 1: column 2 of the header has no name"),
        ('"a\n', "line 1: broken CSV"),
        ("", "holds no rows"),
        ("prompt\n", "holds no rows"),
    ],
)
def test_csv_headers_must_name_the_columns(tmp_path: Path, content: str, text: str) -> None:
    """A header that can't name the columns is the one fault of the file."""
    assert fault(content, tmp_path, "in.csv").startswith(text)


def test_missing_columns_are_named_with_those_there_are(tmp_path: Path) -> None:
    """A wrong prompt or id column is answered with the columns of the table."""
    assert "prompt column 'q' is missing; the row has 'id, text'" in fault(
        "id,text\n1,a\n", tmp_path, "a.csv", prompt_column="q"
    )
    assert "id column 'key' is missing or empty" in fault("prompt\na\n", tmp_path, "a.csv", id_column="key")
    assert "prompt is missing; the row has 'id, text'" in fault("id,text\n1,a\n", tmp_path, "a.csv")


def test_parquet_rows_become_requests(tmp_path: Path) -> None:
    """Typed columns are taken as they are; null and whole floats are what a data frame makes of integers."""
    columns = {"key": [1, 2], "prompt": ["a", "b"], "max_tokens": [5.0, None], "top_p": [0.5, 1.0]}
    spec = Spec(source=str(parquet(tmp_path, columns)), id_column="key")
    first, second = requests(spec, tmp_path)

    assert (first.custom_id, first.prompt, first.sampling) == ("1", "a", Sampling(max_tokens=5, top_p=0.5))
    assert (second.custom_id, second.sampling) == ("2", Sampling())


def test_parquet_values_json_lacks_become_text_or_null(tmp_path: Path) -> None:
    """Dates, decimals, bytes and non-finite numbers have a written form in the row's fields."""
    day = datetime.date(2020, 1, 2)
    columns = {
        "prompt": ["a"],
        "day": [day],
        "price": [Decimal("1.50")],
        "raw": [b"\x00\xff"],
        "nan": [float("nan")],
        "list": [[{"x": day}]],
    }
    spec = Spec(source=str(parquet(tmp_path, columns)))
    (entry,), source = scanned(spec, tmp_path)
    with Reader(spec, source) as reader:
        fields = reader.fields(entry.offset, entry.length, entry.line)

    day_text = "2020-01-02"
    assert fields == {
        "prompt": "a",
        "day": day_text,
        "price": "1.50",
        "raw": "AP8=",
        "nan": None,
        "list": [{"x": day_text}],
    }


def test_parquet_is_known_by_suffix_content_or_format(tmp_path: Path) -> None:
    """A Parquet file under another name is still read as one, unless its suffix says otherwise."""
    content = parquet(tmp_path, {"prompt": ["a"]}).read_bytes()
    plain = write(tmp_path, content, "data")
    assert [request.prompt for request in requests(Spec(source=str(plain)), tmp_path)] == ["a"]
    wrong = write(tmp_path, content, "data.jsonl")
    assert [r.prompt for r in requests(Spec(source=str(wrong), format="parquet"), tmp_path)] == ["a"]
    assert "this is a Parquet file" in fault(content, tmp_path, "data.jsonl")


def test_broken_parquet_is_refused_in_one_line(tmp_path: Path) -> None:
    """A cut or foreign file has one fault without a traceback."""
    content = parquet(tmp_path, {"prompt": ["a"] * 1000}).read_bytes()
    for broken in (content[:-20], b"hello", content[:4] + b"x" * 50 + content[54:]):
        text = fault(broken, tmp_path, "in.parquet")
        assert text.startswith("can't be read as Parquet (")
        assert "\n" not in text


def test_parquet_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow the error is the command that brings it."""
    path = parquet(tmp_path, {"prompt": ["a"]})
    real = builtins.__import__

    def without(name: str, *rest: object, **named: object) -> object:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'tokenmill\[parquet\]'"):
        scanned(Spec(source=str(path)), tmp_path)

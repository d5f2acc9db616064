"""What leaves the record: shape, order and whole files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from record.filled import fill, manifest
from tokenmill.errors import UsageError
from tokenmill.record.atomic import whole_file
from tokenmill.record.export import export


def test_a_line_has_the_shape_of_a_batch_result(tmp_path: Path) -> None:
    """Answer and failure look as OpenAI's batch files do; our own word is under one key."""
    record = fill(tmp_path / "record.db", {0: "hi", 1: ("refused", "no")})
    rows = export(record, manifest(), tmp_path / "out.jsonl")
    good, bad = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]

    assert rows == 2
    assert good["custom_id"] == "a"
    assert good["error"] is None
    body = good["response"]["body"]
    assert body["choices"] == [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert (body["created"], body["model"]) == (0, "model-x")
    assert bad["response"] is None
    assert bad["error"] == {"code": "refused", "message": "no"}
    assert (tmp_path / "out.errors.jsonl").read_text().splitlines() == [json.dumps(bad)]


def test_timings_stand_beside_their_row(tmp_path: Path) -> None:
    """With timings each line carries the attempts of its own request."""
    record = fill(tmp_path / "record.db", {1: "later", 0: "first"})
    export(record, manifest(), tmp_path / "out.jsonl", with_timings=True)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]

    assert [line["custom_id"] for line in lines] == ["a", "b"]
    assert [[attempt["outcome"] for attempt in line["tokenmill"]["attempts"]] for line in lines] == [["answered"]] * 2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=3, max_size=3))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> None:
    """Every answer is read back equal from JSONL, CSV, Parquet and, unescaped, from text."""
    folder = tmp_path_factory.mktemp("export")
    record = fill(folder / "record.db", dict(enumerate(said)))
    for suffix in ("jsonl", "csv", "parquet", "txt"):
        export(record, manifest(), folder / f"out.{suffix}", neutralize=False)
    lines = (folder / "out.jsonl").read_text().splitlines()
    with (folder / "out.csv").open(newline="", encoding="utf-8") as file:
        cells = [row["answer"] for row in csv.DictReader(file)]
    plain = [line.partition("\t")[2] for line in (folder / "out.txt").read_bytes().decode().split("\n")[:-1]]

    assert [json.loads(line)["response"]["body"]["choices"][0]["message"]["content"] for line in lines] == said
    assert cells == said
    assert pyarrow.parquet.read_table(folder / "out.parquet").column("answer").to_pylist() == said
    assert [unescaped(text) for text in plain] == said


def unescaped(text: str) -> str:
    result, letters = [], iter(text)
    for letter in letters:
        result.append({"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}[next(letters)] if letter == "\\" else letter)
    return "".join(result)


def test_cells_do_not_become_formulas(tmp_path: Path) -> None:
    """A cell that a spreadsheet would run gets an apostrophe, unless raw cells are asked for; JSONL never."""
    record = fill(tmp_path / "record.db", {0: "=1+1", 1: "-2", 2: "plain"})
    export(record, manifest(), tmp_path / "safe.csv")
    export(record, manifest(), tmp_path / "raw.csv", neutralize=False)

    def answers(name: str) -> list[str]:
        with (tmp_path / name).open(newline="") as file:
            return [row["answer"] for row in csv.DictReader(file)]

    assert answers("safe.csv") == ["'=1+1", "'-2", "plain"]
    assert answers("raw.csv") == ["=1+1", "-2", "plain"]


def test_the_input_table_with_answers(tmp_path: Path) -> None:
    """With the input's columns, the answer follows them; a column of the same name keeps its own."""
    record = fill(tmp_path / "record.db", {0: "yes"})
    export(record, manifest(), tmp_path / "out.csv", input_row=lambda result: {"q": "why", "answer": "old"})
    with (tmp_path / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)

    assert list(row)[:2] == ["q", "answer"]
    assert (row["answer"], row["tokenmill_answer"]) == ("old", "yes")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """An error while writing leaves the old file as it was, and no other."""
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    """The format goes by the name; one that is not known is named."""
    record = fill(tmp_path / "record.db", {0: "yes"})
    with pytest.raises(UsageError, match="xlsx"):
        export(record, manifest(), tmp_path / "out.xlsx")

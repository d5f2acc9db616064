"""Inputs that need no file."""

from __future__ import annotations

import hashlib
import statistics
from pathlib import Path

import pytest

from tokenmill.errors import InputFaults, UsageError
from tokenmill.request import Sampling
from tokenmill.workload import Reader, Spec
from workload.reading import requests, scanned, write

ORDER = "30 29 10 7 26 25 6 3 22 21 4 8 18 23 17 2 16 20 15 1 14 24 13 5 12 27 11 9 19 28"
ORDER_15 = "30 27 1 4 5 29 26 2 6 7 28 25 3 8 9"


@pytest.mark.parametrize(("name", "order"), [("sentences", ORDER), ("sentences-15", ORDER_15)])
def test_sentences_have_the_original_order_and_wording(tmp_path: Path, name: str, order: str) -> None:
    """Each prompt asks for N sentences, one in the singular."""
    prompts = [request.prompt for request in requests(Spec(source=name), tmp_path)]
    wording = [f"{count} sentence{'s' * (count != '1')}" for count in order.split()]

    assert prompts == [f"Give me {count} about the University of Chicago" for count in wording]


def test_predicted_sentences_are_proportional_to_their_number(tmp_path: Path) -> None:
    """The schedule sees the lengths 1 to 30 in the right ratio, in one group of wording."""
    entries, _ = scanned(Spec(source="sentences"), tmp_path)
    unit = min(entry.predicted for entry in entries)

    assert [round(entry.predicted / unit) for entry in entries] == [int(count) for count in ORDER.split()]
    assert sum(entry.predicted for entry in entries) == 465 * unit
    assert {entry.group for entry in entries} == {1}


def test_a_file_named_like_a_built_in_needs_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in wins over a file of its name; with ./ the file is meant."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "mine\n", "sentences")
    assert len(requests(Spec(source="sentences"), tmp_path)) == 30
    assert [request.prompt for request in requests(Spec(source="./sentences"), tmp_path)] == ["mine"]


def test_texts_are_the_same_everywhere(tmp_path: Path) -> None:
    """2,500 texts with ids, five words of each as prompt, up to 200 tokens; their bytes are pinned."""
    found = requests(Spec(source="texts"), tmp_path)
    entries, source = scanned(Spec(source="texts"), tmp_path)
    with Reader(Spec(source="texts"), source) as reader:
        first = reader.fields(entries[0].offset, entries[0].length, 1)

    assert len(found) == 2500
    assert (found[0].custom_id, found[0].sampling.max_tokens) == ("text-0001", 200)
    assert {len((request.prompt or "").split()) for request in found} == {5}
    assert list(first) == ["id", "text"]
    assert str(first["text"]).startswith(found[0].prompt or "-")
    assert source.sha256 == "33b8c77c568733726528bfd42732d0a148efb2d69d85a3c8604ba9cc4524f23f"


def test_texts_take_other_options_than_their_own(tmp_path: Path) -> None:
    """A template, a prompt column and a token limit given by the user win."""
    spec = Spec(source="texts", limit=1, template="Say: {{ text.split()[0] }}", sampling=Sampling(max_tokens=3))
    (request,) = requests(spec, tmp_path)
    assert (request.prompt, request.sampling.max_tokens) == ("Say: The", 3)
    (request,) = requests(Spec(source="texts", limit=1, prompt_column="text"), tmp_path)
    assert len((request.prompt or "").split()) >= 20


def test_synthetic_rows_have_the_lengths_asked_for(tmp_path: Path) -> None:
    """Output lengths and prompt words are drawn from the distributions, the same for the same seed."""
    spec = Spec(source="synthetic:rows=2000, output=uniform(10, 300), prompt=uniform(5,50), seed=7")
    found = requests(spec, tmp_path)
    outputs = [request.sampling.max_tokens or 0 for request in found]
    words = [len((request.prompt or "").split()) for request in found]

    assert found == requests(spec, tmp_path)
    assert (len(found), min(outputs), max(outputs)) == (2000, 10, 300)
    assert abs(statistics.mean(outputs) - 155) < 6
    assert (min(words), max(words)) == (5, 50)
    assert found[:10] == requests(Spec(source=spec.source.replace("2000", "10")), tmp_path)
    assert found != requests(Spec(source=spec.source.replace("seed=7", "seed=8")), tmp_path)


@pytest.mark.parametrize(
    ("written", "mean", "spread"),
    [
        ("lognormal(4,0.5)", 61.9, 33.0),
        ("normal(200,20)", 200.0, 20.0),
        ("exponential(100)", 100.0, 100.0),
        ("64", 64.0, 0.0),
    ],
)
def test_distributions_have_their_mean_and_spread(tmp_path: Path, written: str, mean: float, spread: float) -> None:
    """Each named distribution is what its name says, within sampling error."""
    found = requests(Spec(source=f"synthetic:rows=4000,output={written},prompt=3,seed=1"), tmp_path)
    outputs = [float(request.sampling.max_tokens or 0) for request in found]

    assert statistics.mean(outputs) == pytest.approx(mean, rel=0.05)
    assert statistics.pstdev(outputs) == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize(
    "written",
    [
        "rows=0",
        "rows=many",
        "rows=99999999999",
        "seed=-1",
        "colour=red",
        "rows=1,rows=2",
        "output=gamma(1,2)",
        "output=uniform(5)",
        "output=uniform(9,5)",
        "output=uniform(nan,5)",
        "output=0",
        "output=normal(a,b)",
        "output=uniform(1,2",
        "nonsense",
    ],
)
def test_a_synthetic_input_that_can_not_be_read_is_explained(tmp_path: Path, written: str) -> None:
    """The error names the part and what would do."""
    with pytest.raises(UsageError, match="synthetic:") as caught:
        scanned(Spec(source=f"synthetic:{written}"), tmp_path)
    assert any(word in str(caught.value) for word in ("known:", "must be", "write it like", "twice", "change its"))


def test_built_in_hash_is_that_of_the_spool(tmp_path: Path) -> None:
    """A built-in is identified by the rows it made."""
    _, source = scanned(Spec(source="sentences"), tmp_path)
    assert source.sha256 == hashlib.sha256((tmp_path / "spool" / "input.jsonl").read_bytes()).hexdigest()


def test_a_misspelt_built_in_is_a_missing_file(tmp_path: Path) -> None:
    """An unknown name is looked up as a file, and the fault lists the built-ins."""
    with pytest.raises(InputFaults, match=r"sentenses: no such file.*built in: sentences, sentences-15, texts"):
        scanned(Spec(source="sentenses"), tmp_path)

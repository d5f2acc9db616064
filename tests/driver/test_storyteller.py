"""A storyteller over many stories: each is read, told and forgotten."""

from __future__ import annotations

import gc
import sqlite3
import sys
from collections.abc import Iterator

import pytest

import tokenmill
from driver.runs import run, script
from tokenmill.driver.prepare import RECORD, located
from tokenmill.driver.session import options_of
from tokenmill.driver.storyteller import Storyteller
from tokenmill.pipeline import Check, Recipe, Stage
from tokenmill.pipeline.judging import Judge
from tokenmill.record.folder import read_manifest
from tokenmill.workload import Reader

ROWS = 400
RECIPE = Recipe(
    name="lines",
    rounds=3,
    reference="{{ text }}",
    stages=(
        Stage(
            name="say",
            prompt="{{ text }} {{ round }}",
            target={"say": 3},
            checks=(Check(use="length", options={"min_words": 2}), Check(use="near_duplicate")),
        ),
    ),
)


@pytest.fixture(scope="module")
def unjudged(tmp_path_factory: pytest.TempPathFactory) -> tokenmill.Answers:
    """A run of which all first answers are there, and nothing was judged."""
    folder = tmp_path_factory.mktemp("unjudged")
    rows = [{"text": f"Tell me about number {number}"} for number in range(ROWS)]
    answers = run(folder, rows, script(folder, 'answer = "As to {prompt}, and so on"'), pipeline=RECIPE)
    with sqlite3.connect(answers.folder / RECORD) as connection:
        connection.executescript(
            "DROP TRIGGER answer_stays; DELETE FROM item; DELETE FROM score; DELETE FROM story;"
            f"DELETE FROM answer WHERE row >= {ROWS}; DELETE FROM request WHERE row >= {ROWS};"
        )
    return answers


@pytest.fixture
def teller(unjudged: tokenmill.Answers) -> Iterator[Storyteller]:
    manifest = read_manifest(unjudged.folder)
    options = options_of(manifest)
    found = located(manifest.input, unjudged.folder)
    with Reader(options.asked, found) as reader:
        path = unjudged.folder / RECORD
        made = Storyteller(path, reader, RECIPE, options.workload, reader.kind, Judge(RECIPE))
        yield made
        made.close()


def test_stories_leave_nothing_in_memory(teller: Storyteller) -> None:
    """After a thousand more stories as many blocks are in use as before, give or take one for four stories."""
    rows = teller.unjudged()
    born = sum(len(teller.go_on([row], 0.0).arrived) for row in rows)
    gc.collect()
    before = sys.getallocatedblocks()

    for _ in range(4):
        born += sum(len(teller.go_on([row], 0.0).arrived) for row in rows)
    gc.collect()

    assert born == 5 * ROWS == 2000
    assert sys.getallocatedblocks() - before < ROWS


def test_a_batch_is_judged_as_its_rows_one_by_one(teller: Storyteller) -> None:
    """How rows are cut into batches shapes no entry but the numbers of new rows."""
    rows = teller.unjudged()[:60]

    together = teller.go_on(rows, 0.0).entries
    apart = [entry for row in rows for entry in teller.go_on([row], 0.0).entries]

    assert sorted(map(said, together)) == sorted(map(said, apart))


def said(entry: tuple[str, tuple[object, ...]]) -> str:
    """An entry without the number of a new row."""
    kind, values = entry
    return repr((kind, values[1:] if kind == "request" else values))

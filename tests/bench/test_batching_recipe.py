"""The batching suite with a recipe: the same rounds of generating, validating and refining, in four pipelines."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tokenmill.bench.as_html import html
from tokenmill.bench.as_json import report_of
from tokenmill.bench.batching import CONTINUOUS, LOCKED, LOOP, ONE_BY_ONE, SUITE, BatchingOptions, recipe_of
from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.folder import SweepFolder
from tokenmill.bench.instructions import input_rows
from tokenmill.bench.sweep import Results, carry_on, results_of
from tokenmill.bench.table import rows_of
from tokenmill.errors import UsageError
from tokenmill.report.audit import AS_ASKED, SEQUENTIAL, TRUE_BATCH

RECIPE = """
name = "marks"
rounds = 3
sampling = { temperature = 1.0 }

[[stage]]
name = "say"
n = 2
prompt = "{{ text }}"
refine = "{{ text }} then {{ text }}"

[[stage.check]]
use = "regex"
options = { pattern = "river|church|left|old", because = "Name a river, a church, the left or something old." }

[[stage]]
name = "again"
of = "say"
prompt = "{{ item.text }}"
"""
ROWS = 12


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """One real sweep: each pipeline makes the data set once, in a process of its own."""
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "marks.toml").write_text(RECIPE, encoding="utf-8")
    given = BatchingOptions(shape="tiny", batch="4", prompts=ROWS, max_tokens=8, pipeline=str(folder / "marks.toml"))
    options = SUITE.settled(given, folder)
    sweep = SweepFolder.create(folder, "batching", msgspec.to_builtins(options), repeats=1, seed=0, targets=())
    assert carry_on(sweep, lambda _: None)
    return results_of(sweep)


def by_pipeline(results: Results) -> dict[str, Reading]:
    named = {row.cell.key: str(row.cell.factors["Pipeline"]) for row in results.rows}
    return {named[each.cell]: each for each in results.readings}


def test_all_pipelines_make_the_same_data_set(results: Results) -> None:
    """Items, rest and missed rows are equal byte for byte, and so are the rounds; some rows succeed and some don't."""
    read = by_pipeline(results)
    stories = read[ONE_BY_ONE].stories

    assert set(read) == {ONE_BY_ONE, LOOP, LOCKED, CONTINUOUS}
    assert [each.fault for each in read.values()] == [""] * 4
    assert len({each.digest for each in read.values()}) == 1
    assert [each.stories for each in read.values()] == [stories] * 4
    assert sum(stories.values()) == ROWS
    assert len(stories) == 2
    assert len({each.extra["rounds"] for each in read.values()}) == 1
    assert "rounds of a recipe that an input row took" in html(report_of(results))
    assert results.findings[0].startswith("equal work: all 4 pipelines made the same data set every time")
    assert results.findings[1].startswith("each pipeline: ")


def test_the_loop_is_unmasked_with_a_recipe_too(results: Results) -> None:
    """Loop and lock are sequential in disguise, and the run is a true batch."""
    read = by_pipeline(results)

    assert [read[each].audit for each in (LOOP, LOCKED)] == [SEQUENTIAL] * 2
    assert (read[ONE_BY_ONE].audit, read[CONTINUOUS].audit) == (AS_ASKED, TRUE_BATCH)


def test_success_is_that_of_the_rows(results: Results) -> None:
    """The column counts input rows that met every target, and not answered prompts; so does the average time."""
    for row in results.rows:
        stories = next(each.stories for each in results.readings if each.cell == row.cell.key)
        assert row.success.value == stories["success"] / ROWS
        assert row.per_answer.value == pytest.approx((row.seconds.value or 0.0) / ROWS)


def test_a_recipe_that_was_not_finished_is_no_whole_reading() -> None:
    """Its time isn't compared; one whose rows merely missed targets is."""
    cell = Cell(group="", factors={"Pipeline": "x"}, is_baseline=True)
    done = Reading(cell=cell.key, repeat=0, seconds=2.0, requests=9, answered=8, stories={"success": 1, "short": 3})
    (row,) = rows_of([cell], [done], "")

    assert done.is_whole
    assert not msgspec.structs.replace(done, stories={"success": 1, "unfinished": 3}).is_whole
    assert (row.success.value, row.per_answer.value) == (0.25, 0.5)


def test_a_shipped_recipe_that_compares_vectors_compares_wording() -> None:
    """It names no model for them, and the suite has no option to name one."""
    assert recipe_of(BatchingOptions(pipeline="contrastive")).embedding == "words"


def test_a_recipe_that_asks_for_vectors_is_refused(tmp_path: Path) -> None:
    """An embedding model would be timed as well."""
    path = tmp_path / "vectors.toml"
    path.write_text(f'embedding = "local:./MiniLM"\n{RECIPE}', encoding="utf-8")

    with pytest.raises(UsageError, match="its checks ask the embedding model 'local:"):
        SUITE.settled(BatchingOptions(pipeline=str(path)), tmp_path)


def test_instructions_become_rows_of_the_field_that_a_recipe_reads() -> None:
    """They are what was to be paraphrased, under the names of the requests."""
    first, *others = input_rows(3, "instruction")

    assert first["custom_id"] == "flight-1"
    assert "Paraphrase" not in first["instruction"]
    assert len(others) == 2

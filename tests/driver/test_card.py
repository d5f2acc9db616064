"""What a data set came to is in its run's certificate, as text, JSON, table and page, and in its card."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

import tokenmill
from driver.runs import run, script
from tokenmill.driver.gather import gather
from tokenmill.driver.overlap import length, union
from tokenmill.driver.tale import data, lines, tale_of
from tokenmill.pipeline import Check, Parser, Recipe, Stage
from tokenmill.record.folder import read_manifest
from tokenmill.report import as_csv, as_html, as_json, as_text, schema
from tokenmill.report.certificate import Certificate
from tokenmill.report.data_set import DataSet

VERDICT = Parser(kind="verdict")
RECIPE = Recipe(
    name="pairs",
    rounds=2,
    stages=(
        Stage(name="ask", prompt="{{ round }} {{ text }}", checks=(Check(use="length", options={"min_words": 3}),)),
        Stage(name="verdict", of="ask", judges=True, at_least=5, prompt="rate {{ item.text }}", parse=VERDICT),
    ),
)
SCRIPT = """
slots = 2
first_token = 0.002
answer = "{prompt}"
[[rule]]
match = "^2 short"
answer = "long enough by now"
[[rule]]
match = "^rate"
answer = "Reason: fine\\nScore: 9"
"""
ASKED = "rate long enough by now"
ROWS = [{"text": "and long"}, {"text": "short"}, {"text": "x"}]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tokenmill.Answers:
    """A row that is good at once, one that is good in its second round, and one that never is."""
    folder = tmp_path_factory.mktemp("card")
    return run(folder, ROWS, script(folder, SCRIPT), pipeline=RECIPE)


@pytest.fixture(scope="module")
def certificate(answers: tokenmill.Answers) -> Certificate:
    assert answers.certificate is not None
    return answers.certificate


@pytest.fixture(scope="module")
def found(certificate: Certificate) -> DataSet:
    assert certificate.data_set is not None
    return certificate.data_set


def test_success_rounds_yield_and_costs_are_those_of_the_rows(found: DataSet) -> None:
    """Two rows of three succeed, two take two rounds, two items of five pass, and tokens are shared by these two."""
    ask, verdict = found.stages

    assert (found.input_rows, found.outcomes, found.rounds) == (3, {"short": 1, "success": 2}, {1: 1, 2: 2})
    assert (found.success_rate.value, found.rounds_mean.value) == pytest.approx((2 / 3, 5 / 3), abs=1e-6)
    assert (ask.prompts, ask.answered, ask.items, ask.passed, ask.accepted) == (5, 5, 5, 2, 2)
    assert ask.stage_yield.value == 0.4
    assert (verdict.prompts, verdict.accepted, found.accepted) == (2, 2, 2)
    assert found.rejected_by == {"length": 3}
    assert found.tokens_per_accepted.value is not None
    assert found.joules_per_accepted.value is not None or found.joules_per_accepted.reason


def test_times_of_stages_lie_within_the_generation(found: DataSet) -> None:
    """Each stage is in flight for a part of the generation, and both together for all of it."""
    busy = [stage.busy.value or 0.0 for stage in found.stages]
    generation = found.generation.value or 0.0

    assert all(0 < each <= generation for each in busy)
    assert sum(busy) >= generation - 1e-5
    assert (found.judging.value or 0.0) > 0
    assert 0 <= (found.judging_while_generating.value or 0.0) <= 1


def test_the_card_says_the_same(answers: tokenmill.Answers, found: DataSet) -> None:
    """Card and certificate are made from one count."""
    assert answers.output is not None
    card = json.loads(answers.output.with_name("data.card.json").read_text(encoding="utf-8"))
    text = answers.output.with_name("data.card.md").read_text(encoding="utf-8")

    assert card["success_rate"] == found.success_rate.value
    assert card["stages"]["ask"]["yield"] == 0.4
    assert card["stages"]["ask"]["seconds"] == found.stages[0].busy.value
    assert card["tokens_per_accepted"] == found.tokens_per_accepted.value
    assert "| stage | prompts | answered | items | passed | yield | accepted | seconds |" in text
    assert "| ask | 5 | 5 | 5 | 2 | 40.0% | 2 |" in text


def test_the_text_tells_it_in_short(certificate: Certificate) -> None:
    """Rate, rounds, yield, and judging beside generation are lines of the certificate, with their definitions."""
    text = "\n".join(as_text.lines(certificate, 160))

    assert "Data set: pairs" in text
    assert "success     66.7 %: 2 of 3 rows, 1 short" in text
    assert "rounds      1 row took 1, 2 rows took 2" in text
    assert "stage       ask: 5 prompts in" in text
    assert "2 of 5 items passed (yield 40.0 %), 2 accepted" in text
    assert "success: input rows that ended with success / input rows" in text


def test_the_report_reads_it_from_the_record(answers: tokenmill.Answers, found: DataSet) -> None:
    """JSON, table and page of the run have the same figures, though nothing but the record was kept of them."""
    dossier = gather(answers.folder)
    certificate = dossier.certificate
    data = msgspec.json.decode(as_json.encode(certificate))
    table = as_csv.encode([dossier]).decode()
    page = as_html.fill(dossier, {}, "")

    assert certificate.data_set == found
    jsonschema.Draft202012Validator(msgspec.json.decode(schema.encode())).validate(data)
    assert data["data_set"]["rounds"] == {"1": 1, "2": 2}
    assert "data_set.success_rate,0.666667," in table
    assert "data_set.stages.ask.stage_yield,0.4," in table
    assert "<caption>Data set</caption>" in page
    assert certificate.definitions["stage_yield"] in page


def test_the_story_of_a_row_has_what_was_asked(answers: tokenmill.Answers) -> None:
    """Each prompt stands there with its text, before what came of it."""
    tale = tale_of(answers.folder, read_manifest(answers.folder), 1)
    told = list(lines(tale))
    first, second, judged = (told.index(f"    asked: {text}") for text in ("1 short", "2 short", ASKED))

    assert told[0] == "row-2: success after 2 rounds"
    assert first < second < judged
    assert [each["prompt"] for each in data(tale)["prompts"]] == ["1 short", "2 short", ASKED]


def test_a_row_that_could_not_be_asked_is_told_without_a_prompt(tmp_path: Path) -> None:
    """Its story is why it failed."""
    made = Recipe(name="r", stages=(Stage(name="say", prompt="{{ text }}"),))
    answers = run(tmp_path, [{"text": "a"}, {"txt": "b"}], pipeline=made, bad_rows="fail")
    told = list(lines(tale_of(answers.folder, read_manifest(answers.folder), 1)))

    assert told[0].startswith("row-2: failed")
    assert "'text' is undefined" in told[1]
    assert not any("asked:" in line for line in told)


def test_a_run_without_a_recipe_has_no_data_set(tmp_path: Path) -> None:
    """Its certificate says nothing of stages."""
    certificate = run(tmp_path, ["a"]).certificate

    assert certificate is not None
    assert certificate.data_set is None
    assert not any(line.startswith("Data set") for line in as_text.lines(certificate))


def test_moments_of_several_count_once() -> None:
    """The union of intervals is as long as the time that any of them covers."""
    assert length(union([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)])) == 4.0

"""Stories of rows of which something can't be asked or judged: each ends, and as its answers say."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import tokenmill
from driver.runs import run, script
from tokenmill.driver.prepare import RECORD
from tokenmill.pipeline import Check, Recipe, Stage

BAD_ROWS = """\
{"custom_id": "ok", "text": "hello there"}
{"custom_id": "bad", "other": "x"}
not json
{"custom_id": "null", "text": null}
"""


def read(path: Path | None, what: str = "") -> list[dict[str, Any]]:
    assert path is not None
    path = path.with_name(f"data.{what}.jsonl") if what else path
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def missed(answers: tokenmill.Answers) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in read(answers.output, "missed")}


SAMPLES = Recipe(name="r", stages=(Stage(name="s", prompt="Say {{ text }}", n=2, sampling={"temperature": 0.7}),))
STAGES = Recipe(name="r", stages=(Stage(name="a", prompt="Say {{ text }}"), Stage(name="b", prompt="Or {{ text }}")))
ROUNDS = Recipe(name="r", stages=(Stage(name="s", prompt="Say {{ text }}", rounds=3),))


@pytest.mark.parametrize("recipe", [SAMPLES, STAGES, ROUNDS], ids=["samples", "stages", "rounds"])
def test_a_refused_row_ends_with_what_was_wrong_with_it(tmp_path: Path, recipe: Recipe) -> None:
    """A row that can't be asked fails before anything of it is sent, with its own fault; the others go on."""
    source = tmp_path / "rows.jsonl"
    source.write_text(BAD_ROWS, encoding="utf-8")
    answers = run(tmp_path, source, pipeline=recipe, bad_rows="fail")
    ended = missed(answers)

    assert {each["id"] for each in read(answers.output)} == {"ok"}
    assert [(each["outcome"], each["rounds"], len(each["reasons"])) for each in ended.values()] == [
        ("failed", 1, 1)
    ] * 3
    assert "Refused: template: 'text' is undefined; the row has 'custom_id, other'" in ended["bad"]["reasons"][0]
    assert "Refused: broken JSON at column 1" in ended["row-3"]["reasons"][0]
    assert "a value that it writes is null" in ended["null"]["reasons"][0]


def test_a_refused_row_ends_when_its_run_goes_on(tmp_path: Path) -> None:
    """A run that was left before its refused rows had ended ends them on resume, with the same bytes."""
    source = tmp_path / "rows.jsonl"
    source.write_text(BAD_ROWS, encoding="utf-8")
    answers = run(tmp_path, source, pipeline=SAMPLES, bad_rows="fail", run_id="x")
    files = {path: path.read_bytes() for path in answers.folder.glob("data.*jsonl")}
    with sqlite3.connect(answers.folder / RECORD) as connection:
        connection.executescript(
            "DELETE FROM item WHERE row IN (SELECT row FROM failure); DELETE FROM story WHERE row > 0"
        )
    run(tmp_path, source, pipeline=SAMPLES, bad_rows="fail", run_id="x", resume=True)

    assert len(files) == 3
    assert {path: path.read_bytes() for path in files} == files


RAISES = (Check(use="function", name="picky", options={"function": "driver.judging_functions:picky"}),)
SHORT = (Check(use="length", options={"min_words": 3}),)
FINE = Stage(name="b", prompt="Or {{ text }}", refine="Or rather {{ text }}", rounds=2, checks=SHORT)
#: What goes wrong in the one stage, and what is said of it.
WRONG = {
    "a validator raises": (Stage(name="a", prompt="Say {{ text }}", checks=RAISES), "validator 'picky' raised"),
    "a prompt can't be written": (
        Stage(name="a", prompt="Say {{ text }}", refine="{{ hint }}", rounds=3, checks=SHORT),
        "stage 'a': template: 'hint' is undefined",
    ),
    "some samples can't be written": (
        Stage(
            name="a",
            prompt="Say {{ text }}",
            refine="Say again {% if sample == 2 %}{{ hint }}{% endif %}",
            n=3,
            rounds=3,
            sampling={"temperature": 0.5},
            checks=SHORT,
        ),
        "stage 'a': template: 'hint' is undefined",
    ),
}


@pytest.mark.parametrize("wrong", list(WRONG))
def test_which_answer_comes_first_changes_no_data_set(tmp_path: Path, wrong: str) -> None:
    """A stage in which something breaks leaves the others alone, so slow and fast answers give the same bytes."""
    stage, told = WRONG[wrong]
    recipe = Recipe(name="r", stages=(stage, FINE))
    rows = [{"text": "boom"}, {"text": "fine", "hint": "three more words"}]
    kept = []
    for slow in ("Say", "Or"):
        folder = tmp_path / slow
        folder.mkdir()
        rules = f'slots = 8\nanswer = "boom"\n[[rule]]\nmatch = "^{slow}.*"\nfirst_token = 0.1\nanswer = "boom"\n'
        late = '[[rule]]\nmatch = "^Or rather"\nanswer = "three words here"\n'
        answers = run(folder, rows, script(folder, rules.replace("[[rule]]", late + "[[rule]]")), pipeline=recipe)
        files = sorted(answers.folder.glob("data*.jsonl"))
        kept.append({path.name: path.read_bytes() for path in files})
        ended = missed(answers)["row-1"]
        assert [(each["item"], each["label"]) for each in read(answers.output) if each["stage"] == "b"] == [
            ("b.2.1#1", "accepted")
        ] * 2
        assert ended["outcome"] == "failed"
        assert ended["reasons"][0].startswith(told)

    assert len(kept[0]) == 3
    assert kept[0] == kept[1]


@pytest.mark.parametrize("wrong", list(WRONG))
def test_a_run_that_stopped_ends_with_what_is_wrong_as_the_calm_one(tmp_path: Path, wrong: str) -> None:
    """Answers that nobody had judged are judged on resume, and what can't be asked is found again."""
    rows = [{"text": "boom"}, {"text": "fine", "hint": "three more words"}]
    node = script(tmp_path, 'answer = "{prompt}"')
    answers = run(tmp_path, rows, node, pipeline=Recipe(name="r", stages=(WRONG[wrong][0], FINE)), run_id="x")
    files = {path: path.read_bytes() for path in answers.folder.glob("data*.jsonl")}
    with sqlite3.connect(answers.folder / RECORD) as connection:  # as if it had been killed before anything was judged
        connection.executescript(
            "DROP TRIGGER answer_stays; DELETE FROM item; DELETE FROM score; DELETE FROM story;"
            "DELETE FROM answer WHERE row IN (SELECT row FROM request WHERE round > 0);"
            "DELETE FROM attempt WHERE row IN (SELECT row FROM request WHERE round > 0);"
            "DELETE FROM request WHERE round > 0;"
        )
    run(tmp_path, rows, node, pipeline=Recipe(name="r", stages=(WRONG[wrong][0], FINE)), run_id="x", resume=True)

    assert len(files) == 3
    assert {path: path.read_bytes() for path in files} == files

"""Runs with a recipe: rows are refined while others begin, and end with what was planted."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import tokenmill
from driver.runs import run, script
from tokenmill.driver.prepare import RECORD
from tokenmill.driver.progress import Progress
from tokenmill.driver.tale import lines, tale_of
from tokenmill.errors import InputFaults, UsageError
from tokenmill.pipeline import Check, Parser, Recipe, Stage
from tokenmill.pipeline.read import recipe
from tokenmill.record.folder import read_manifest

GOOD = "Positive 1: {a}\nPositive 2: {b}\nNegative: {c}"
LEFT = GOOD.format(
    a="At the red church, take a left turn.",
    b="Make a left turn at the red church there.",
    c="Turn right at the red church.",
)
HALF = GOOD.format(
    a="At the red church, take a left turn.", b="Bananas are yellow.", c="Turn left at the red church now."
)
SCRIPT = f'''
slots = 4
answer = """{LEFT}"""
[[rule]]
match = "(?s)hopeless"
answer = "I can't do that."
[[rule]]
match = "(?s)slow learner.*What was wrong"
answer = """{LEFT}"""
[[rule]]
match = "(?s)slow learner"
answer = """{HALF}"""
[[rule]]
match = "(?s)broken"
fail = "refused"
message = "no"
'''
ROWS = [
    {"custom_id": "good", "instruction": "Turn left at the red church."},
    {"custom_id": "slow", "instruction": "Turn left at the red church.", "kind": "slow learner"},
    {"custom_id": "hopeless", "instruction": "Turn left at the red church, hopeless."},
    {"custom_id": "broken", "instruction": "Turn left at the red church, broken."},
]


def stages(**more: Any) -> Recipe:
    """Wants two lines of at least two words."""
    stage = Stage(
        name="say",
        prompt="{{ text }} {{ round }}",
        parse=Parser(kind="lines"),
        target={"say": 2},
        checks=(Check(use="length", options={"min_words": 2}),),
    )
    return Recipe(name="lines", stages=(stage,), **more)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def output(answers: tokenmill.Answers) -> Path:
    assert answers.output is not None
    return answers.output


@pytest.fixture(scope="module")
def contrastive(tmp_path_factory: pytest.TempPathFactory) -> tokenmill.Answers:
    """The contrastive recipe on planted rows: a good one, one that learns, a hopeless one, and one that is refused."""
    folder = tmp_path_factory.mktemp("contrastive")
    shipped = recipe("contrastive", embedding="words")
    (stage,) = shipped.stages
    told = stage.prompt.replace("Instruction:", "{{ kind | default('') }} Instruction:")
    refine = (stage.refine or "").replace("Instruction:", "{{ kind | default('') }} Instruction:")
    made = replace(shipped, stages=(replace(stage, prompt=told, refine=refine),))
    return run(folder, ROWS, script(folder, SCRIPT), pipeline=made)


class Onlooker:
    """Keeps how far a run was, each time it looked."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []

    def watch(self, progress: Progress, now: float) -> None:
        self.seen.append((progress.ended, progress.rows, progress.answered + progress.failed_total))

    def leave(self) -> None: ...


def test_progress_counts_rows_that_have_ended(tmp_path: Path) -> None:
    """In the end all rows of the input have, though their prompts were more."""
    onlooker = Onlooker()
    run(tmp_path, ROWS, script(tmp_path, SCRIPT), pipeline=recipe("contrastive", embedding="words"), watcher=onlooker)

    ended, prompts, finished = onlooker.seen[-1]
    assert (ended, prompts) == (4, finished)
    assert prompts > 4
    assert onlooker.seen == sorted(onlooker.seen)


def test_the_contrastive_task_ends_as_planted(contrastive: tokenmill.Answers) -> None:
    """Targets, rounds and outcomes are those of the planted rows, and nothing else is accepted."""
    with sqlite3.connect(contrastive.folder / RECORD) as connection:
        ended = dict(
            connection.execute("SELECT custom_id, outcome || rounds FROM story JOIN request ON request.row = story.row")
        )
    items = read(output(contrastive))

    assert ended == {"good": "success1", "slow": "success2", "hopeless": "short3", "broken": "failed3"}
    assert [(each["id"], each["role"], each["round"]) for each in items] == [
        ("good", "positive", 1),
        ("good", "positive", 1),
        ("good", "negative", 1),
        ("slow", "positive", 1),
        ("slow", "positive", 2),
        ("slow", "negative", 2),
    ]
    assert items[0]["scores"].keys() >= {"embedding", "direction", "landmark", "clock", "combined", "rule", "length"}


def test_what_was_missed_is_told_with_its_reasons(contrastive: tokenmill.Answers) -> None:
    """The file of missed rows says what was wanted, and why it didn't come."""
    missed = {each["id"]: each for each in read(output(contrastive).with_name("data.missed.jsonl"))}

    assert missed["hopeless"]["reasons"][:2] == [
        "generate: 2 more positive, 1 more negative wanted after 3 rounds.",
        "The answer has no 'Positive 1'; the answer has no 'Positive 2'; the answer has no 'Negative'.",
    ]
    assert "refused: no." in missed["broken"]["reasons"][-1].lower()


def test_the_card_counts_what_happened(contrastive: tokenmill.Answers) -> None:
    """Rates, rounds, rejections and tokens of the card are those of the rows."""
    card = json.loads(output(contrastive).with_name("data.card.json").read_text(encoding="utf-8"))

    assert card["outcomes"] == {"failed": 1, "short": 1, "success": 2}
    assert (card["success_rate"], card["accepted"], card["rounds"]) == (0.5, 6, {"1": 1, "2": 1, "3": 2})
    assert card["rejected_by"]["rule"] == 2
    assert card["stages"]["generate"]["prompts"] == 9
    assert card["tokens_per_accepted"] > 0
    assert "# Data set: contrastive" in output(contrastive).with_name("data.card.md").read_text(encoding="utf-8")


def test_a_row_is_told_from_beginning_to_end(contrastive: tokenmill.Answers) -> None:
    """The tale of a row has every prompt, item, score and label, and the reason that went into the next prompt."""
    manifest = read_manifest(contrastive.folder)
    told = "\n".join(lines(tale_of(contrastive.folder, manifest, 1)))

    assert told.startswith("slow: success after 2 rounds")
    assert "generate.2.1: stage generate, round 2, sample 1; answered" in told
    assert "rejected positive: Bananas are yellow." in told
    assert "rule 0, failed: The text is no positive by the rule" in told


def test_the_reason_of_a_failure_goes_into_the_next_prompt(contrastive: tokenmill.Answers) -> None:
    """The prompt of the second round holds what was wrong in the first, and what is good already."""
    with sqlite3.connect(contrastive.folder / RECORD) as connection:
        (body,) = connection.execute("SELECT body FROM request WHERE custom_id = 'slow/generate.2.1'").fetchone()
    prompt = json.loads(body)["prompt"]

    assert "- positive: At the red church, take a left turn." in prompt
    assert "The text is no positive by the rule" in prompt


def test_a_row_whose_function_raises_fails_with_its_name(tmp_path: Path) -> None:
    """A user's function that raises costs the rows it raised on, with its name; others succeed."""
    stage = Stage(
        name="say",
        prompt="{{ text }}",
        rounds=3,
        checks=(Check(use="function", name="picky", options={"function": "driver.judging_functions:picky"}),),
    )
    answers = run(tmp_path, [{"text": "fine"}, {"text": "boom"}], pipeline=Recipe(name="r", stages=(stage,)))
    (missed,) = read(output(answers).with_name("data.missed.jsonl"))

    assert (missed["id"], missed["outcome"], missed["rounds"]) == ("row-2", "failed", 1)
    assert missed["reasons"] == ["validator 'picky' raised ZeroDivisionError: no such word"]


def test_samples_of_a_round_are_asked_at_once(tmp_path: Path) -> None:
    """With n samples a row's first prompts are all there before anything is answered."""
    made = Recipe(name="n", sampling={"temperature": 1.0}, stages=(replace(stages().stages[0], n=3),))
    answers = run(tmp_path, [{"text": "some words"}], pipeline=made)

    assert [each.custom_id for each in answers] == ["row-1", "row-1/say.1.2", "row-1/say.1.3"]
    assert len(read(output(answers))) == 2


def test_a_run_that_stopped_between_answer_and_judgement_judges_and_repeats_nothing(tmp_path: Path) -> None:
    """What was answered and not judged is judged on resume; the data set equals that of the calm run."""
    rows = [{"text": "one"}, {"text": "two words\nthree more words"}, {"text": "alone"}]
    node = script(tmp_path, 'answer = "{prompt}"')
    calm = run(tmp_path, rows, node, pipeline=stages(), run_id="calm")
    other = run(tmp_path, rows, node, pipeline=stages(), run_id="other")
    with sqlite3.connect(other.folder / RECORD) as connection:  # as if it had been killed before anything was judged
        connection.executescript(
            "DROP TRIGGER answer_stays; DELETE FROM item; DELETE FROM score; DELETE FROM story;"
            "DELETE FROM answer WHERE row >= 3; DELETE FROM attempt WHERE row >= 3; DELETE FROM request WHERE row >= 3;"
        )
        before = connection.execute("SELECT row, attempt, text FROM answer ORDER BY row").fetchall()
    resumed = run(tmp_path, rows, node, pipeline=stages(), run_id="other", resume=True)
    with sqlite3.connect(other.folder / RECORD) as connection:
        after = connection.execute("SELECT row, attempt, text FROM answer WHERE row < 3 ORDER BY row").fetchall()

    assert len(before) == 3
    assert after == before
    for name in ("data.jsonl", "data.rest.jsonl", "data.missed.jsonl"):
        assert (resumed.folder / name).read_bytes() == (calm.folder / name).read_bytes()


def test_a_run_is_not_resumed_with_another_recipe(tmp_path: Path) -> None:
    """A recipe shapes the data, so another one is refused."""
    run(tmp_path, [{"text": "a"}], pipeline=stages(), run_id="x")

    with pytest.raises(UsageError, match="options changed"):
        run(tmp_path, [{"text": "a"}], pipeline=stages(rounds=2), run_id="x", resume=True)


def test_a_variable_that_no_row_has_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """Also one that only a later prompt uses; the place is named."""
    stage = Stage(name="say", prompt="{{ text }}", refine="{{ txet }}")

    with pytest.raises(InputFaults, match="stage 'say', refine: uses 'txet', which no row has"):
        run(tmp_path, [{"text": "a"}], pipeline=Recipe(name="r", stages=(stage,)))


def test_a_row_without_text_is_refused_with_its_line(tmp_path: Path) -> None:
    """What is null makes no prompt: a model would be asked about the word None."""
    with pytest.raises(InputFaults, match="row 2: template: a value that it writes is null; fill it in"):
        run(tmp_path, [{"text": "fine"}, {"text": None}], pipeline=stages())


def test_a_row_without_a_variable_is_refused_with_its_line(tmp_path: Path) -> None:
    """The first prompt is written for every row before anything is sent."""
    with pytest.raises(InputFaults, match="row 2: template: 'text' is undefined"):
        run(tmp_path, [{"text": "a"}, {"txt": "b"}], pipeline=stages())


def test_a_later_prompt_that_can_not_be_written_fails_its_row(tmp_path: Path) -> None:
    """A field that some rows lack, and only a later round uses, costs those rows alone."""
    stage = Stage(
        name="say",
        prompt="{{ text }}",
        refine="{{ hint }}",
        rounds=2,
        checks=(Check(use="length", options={"min_words": 2}),),
    )
    rows = [{"text": "a", "hint": "two words"}, {"text": "b"}]
    answers = run(tmp_path, rows, pipeline=Recipe(name="r", stages=(stage,)))
    (missed,) = read(output(answers).with_name("data.missed.jsonl"))

    assert (missed["id"], missed["outcome"], missed["rounds"]) == ("row-2", "failed", 2)
    assert missed["reasons"][0].startswith("stage 'say': template: 'hint' is undefined")


def test_options_that_say_what_to_ask_do_not_go_with_a_recipe(tmp_path: Path) -> None:
    """A template beside a recipe is refused."""
    with pytest.raises(UsageError, match="has its own prompts; leave --template out"):
        run(tmp_path, [{"text": "a"}], pipeline=stages(), template="{{ text }}")


def test_stages_follow_each_other(tmp_path: Path) -> None:
    """The qa recipe asks about each accepted question, has each answer judged, and keeps what the judge accepts."""
    node = script(
        tmp_path,
        """
        answer = "1. What is blue here?\\n2. Who says so to us?\\n3. Why would that be so?"
        [[rule]]
        match = "(?s)Rate from 1.*Nobody"
        answer = "Reason: it isn't there\\nScore: 2"
        [[rule]]
        match = "Rate from 1"
        answer = "Reason: all of it\\nScore: 9"
        [[rule]]
        match = "(?s)Question: Who says"
        answer = "Nobody does."
        [[rule]]
        match = "(?s)Question:"
        answer = "The sky is."
        """,
    )
    answers = run(tmp_path, [{"text": "The sky is blue."}], node, pipeline="qa")
    items = read(output(answers))
    (missed,) = read(output(answers).with_name("data.missed.jsonl"))

    assert [each["role"] for each in items].count("question") == 3
    assert [each["text"] for each in items if each["role"] == "answer"] == ["The sky is."] * 2
    assert {each["scores"]["verdict"] for each in items if each["role"] == "answer"} == {9}
    assert missed["reasons"][0] == "answer for question.1.1#2: 1 more answer wanted after 3 rounds."
    assert missed["reasons"][1].startswith("verdict gave 2, wanted 7: it isn't there")

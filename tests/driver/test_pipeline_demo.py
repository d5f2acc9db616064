"""A data set from the bundled model, whose answers to these prompts are known: rows end as they were planted."""

from __future__ import annotations

import json
from pathlib import Path

import tokenmill
from tokenmill.pipeline import Check, Parser, Recipe, Stage
from tokenmill.pipeline.read import recipe

FACTS = (
    "The University of Chicago is a private research university in Illinois.",
    "It was founded in 1890 with money from John D. Rockefeller.",
)
#: `first` and `then` are what is asked for in the first round and in later ones; four different sentences are wanted.
ROWS = [
    {"custom_id": "good", "first": 4, "then": 4},
    {"custom_id": "slow", "first": 2, "then": 4},
    {"custom_id": "hopeless", "first": 2, "then": 2},
]
PROMPT = "Give me {{ %s }} sentences about the University of Chicago"
SAY = Stage(
    name="say",
    prompt=PROMPT % "first",
    refine=PROMPT % "then",
    target={"say": 4},
    parse=Parser(kind="lines"),
    checks=(Check(use="length", options={"min_words": 4, "max_words": 40}), Check(use="duplicate")),
)


def test_rows_of_the_demo_model_end_as_planted(tmp_path: Path) -> None:
    """Targets, rounds and reasons are exactly those of a good row, of one that learns, and of a hopeless one."""
    answers = tokenmill.run(
        ROWS, model="demo", pipeline=Recipe(name="facts", stages=(SAY,)), runs_dir=tmp_path, durability="process"
    )
    assert answers.output is not None
    items = [json.loads(line) for line in answers.output.read_text(encoding="utf-8").splitlines()]
    missed = answers.output.with_name("data.missed.jsonl").read_text(encoding="utf-8")
    card = json.loads(answers.output.with_name("data.card.json").read_text(encoding="utf-8"))

    assert [(each["id"], each["round"]) for each in items] == [
        *[("good", 1)] * 4,
        *[("slow", 1)] * 2,
        *[("slow", 2)] * 2,
        *[("hopeless", 1)] * 2,
    ]
    assert {each["text"] for each in items if each["id"] == "hopeless"} == set(FACTS)
    assert json.loads(missed) == {
        "id": "hopeless",
        "outcome": "short",
        "rounds": 3,
        "reasons": [
            "say: 2 more say wanted after 3 rounds.",
            f'The text repeats an earlier text: "{FACTS[1]}".',
            f'The text repeats an earlier text: "{FACTS[0][:60]}...".',
        ],
    }
    assert (card["outcomes"], card["rounds"]) == ({"short": 1, "success": 2}, {"1": 1, "2": 1, "3": 1})
    assert (card["near_duplicates"]["compared"], card["near_duplicates"]["near"]) == (10, 6)


def test_the_contrastive_task_names_what_the_demo_model_lacks(tmp_path: Path) -> None:
    """Trained on sentences alone it never writes the three lines that are asked for: three rounds, and why, exactly."""
    rows = [{"custom_id": "a", "instruction": "Turn left at the red church."}]
    contrastive = recipe("contrastive", embedding="words")
    answers = tokenmill.run(rows, model="demo", pipeline=contrastive, runs_dir=tmp_path, durability="process")

    assert answers.output is not None
    assert answers.output.read_text(encoding="utf-8") == ""
    assert json.loads(answers.output.with_name("data.missed.jsonl").read_text(encoding="utf-8")) == {
        "id": "a",
        "outcome": "short",
        "rounds": 3,
        "reasons": [
            "generate: 2 more positive, 1 more negative wanted after 3 rounds.",
            "The answer has no 'Positive 1'; the answer has no 'Positive 2'; the answer has no 'Negative'.",
        ],
    }

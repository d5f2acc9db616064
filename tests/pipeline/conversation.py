"""Plays the story of one row through its real templates, parsers and validators, with answers that a function gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tokenmill.pipeline import Heard, Recipe, Told, tell
from tokenmill.pipeline.asking import Asking, texts_of
from tokenmill.pipeline.judging import Judge, Round
from tokenmill.pipeline.lexical import lexical
from tokenmill.workload import Spec


class Conversation(Struct, frozen=True):
    """How a story ended, and every prompt of it, by its key."""

    told: Told
    prompts: dict[str, str]


def converse(recipe: Recipe, fields: dict[str, Any], answer: Callable[[str, str], str]) -> Conversation:
    """`answer` is handed the key of a prompt and its text."""
    asking, judge = Asking(recipe, Spec(source="rows.jsonl"), "jsonl"), Judge(recipe, lexical)
    heard: dict[str, Heard] = {}
    prompts: dict[str, str] = {}
    told = tell(recipe, heard)
    while told.asks:
        for ask in told.asks:
            prompts[ask.key] = asking.row(ask, fields).asked
            kept = [each for each in told.items if (each.stage, each.about) == (ask.stage, ask.about)]
            whole = Round(
                stage=ask.stage,
                answers={ask.key: answer(ask.key, prompts[ask.key])},
                reference=asking.reference(recipe.stage(ask.stage), fields, ask.of),
                others=tuple(each.item.text for each in kept if each.label in ("accepted", "spare")),
                fields=texts_of(fields),
            )
            heard[ask.key] = judge.judge([whole])[0][0].heard
        told = tell(recipe, heard)
    return Conversation(told, prompts)

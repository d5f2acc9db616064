"""Rounds of answers before the validators of their stage."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.errors import NodeGone
from tokenmill.pipeline import Check, Parser, Recipe, Stage
from tokenmill.pipeline.judging import Judge, Round
from tokenmill.pipeline.lexical import lexical
from tokenmill.validate import Item


def recipe(*checks: Check) -> Recipe:
    stage = Stage(name="say", prompt="x", parse=Parser(kind="lines"), checks=checks)
    return Recipe(name="r", embedding="words", stages=(stage,))


def rounds(*answers: str) -> list[Round]:
    return [Round(stage="say", answers={"say.1.1": answer}, reference="turn left at the church") for answer in answers]


def fussy(item: Item) -> object:
    """Raises over one word, as the validators of users do."""
    if "boom" in item.text:
        raise ZeroDivisionError("no such word")
    return True


#: What `raising` raises.
RAISED: list[BaseException] = []


def raising(item: Item) -> object:
    raise RAISED[0]


def halving(item: Item) -> object:
    return False, "bad \ud800"


def vectors(texts: Sequence[str]) -> object:
    if any("boom" in text for text in texts):
        raise ZeroDivisionError("no vector")
    return lexical(texts)


def test_a_validator_that_raises_fails_its_rounds_by_its_name() -> None:
    """Of three rounds in one batch only the one that made it raise is broken; the others have their scores."""
    judge = Judge(recipe(Check(use="length"), Check(use="embedding", name="near")), vectors)  # type: ignore[arg-type]
    first, second, third = judge.judge(rounds("turn left", "go boom", "left turn"))

    assert [each[0].heard.broken for each in (first, third)] == ["", ""]
    assert second[0].heard.broken == "validator 'near' raised ZeroDivisionError: no vector"
    assert [score.validator for _, score in first[0].scores] == ["length", "near"]


def test_a_function_that_raises_fails_its_round_by_its_name() -> None:
    """A user's function is no other validator: asking again wouldn't mend it, so no more is asked."""
    check = Check(use="function", name="fussy", options={"function": f"{__name__}:fussy"})
    fine, bad = Judge(recipe(check)).judge(rounds("fine words", "go boom"))

    assert fine[0].heard.items[0].passed
    assert bad[0].heard.broken.startswith("validator 'fussy' raised ")
    assert "no such word" in bad[0].heard.broken


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, SystemExit])
def test_whatever_a_function_raises_fails_its_round(error: type[BaseException]) -> None:
    """Also what no `except Exception` catches: a run must neither wait for ever nor end over it."""
    RAISED[:] = [error("\ud800")]
    check = Check(use="function", options={"function": f"{__name__}:raising"})
    ((judged,),) = Judge(recipe(check)).judge(rounds("fine words"))

    assert judged.heard.broken == f"validator 'function' raised {error.__name__}: \\ud800"


def test_a_reason_is_text_that_files_can_hold() -> None:
    """Half a character in the reason of a function is replaced."""
    check = Check(use="function", options={"function": f"{__name__}:halving"})
    ((judged,),) = Judge(recipe(check)).judge(rounds("fine words"))

    assert judged.heard.items[0].reasons == ("Bad \ufffd.",)


def test_a_model_that_is_gone_is_not_the_rows_fault() -> None:
    """An embedding model that can't be reached stops the run, and breaks no row."""

    def gone(texts: Sequence[str]) -> object:
        raise NodeGone("the embedding server is away")

    with pytest.raises(NodeGone):
        Judge(recipe(Check(use="embedding")), gone).judge(rounds("turn left"))  # type: ignore[arg-type]


def test_a_rule_decides_by_scores_of_checks_that_only_measure() -> None:
    """The rule of a profile sees the scores of the checks before it, whatever their order in the recipe."""
    checks = (
        Check(use="rule", options={"rules": {"say": "embedding > 0.5 and direction > 0.7"}}),
        Check(use="embedding"),
        Check(use="direction"),
    )
    good, bad = Judge(recipe(*checks), lexical).judge(rounds("turn left by the church", "turn right at the church"))

    assert good[0].heard.items[0].passed
    assert not bad[0].heard.items[0].passed
    assert [score.validator for _, score in bad[0].scores] == ["embedding", "direction", "rule"]


def test_items_of_one_round_mustnt_repeat_each_other() -> None:
    """The second of two equal items is refused, as is one that was accepted before."""
    judge = Judge(recipe(Check(use="duplicate")))
    (judged,) = judge.judge([Round(stage="say", answers={"say.1.1": "1. one\n2. One!\n3. two"}, others=("Two",))])

    assert [item.passed for item in judged[0].heard.items] == [True, False, False]


@given(st.permutations(range(6)), st.integers(1, 6))
def test_the_batch_that_an_answer_is_in_changes_nothing(order: list[int], size: int) -> None:
    """However rounds are put together, each is judged as if it were alone."""
    judge = Judge(recipe(Check(use="length"), Check(use="embedding", options={"at_least": 0.4})), lexical)
    all_rounds = rounds("left", "turn left", "turn left at the church", "1. go\n2. left", "", "turn right at a church")
    alone = [judge.judge([each])[0] for each in all_rounds]

    for start in range(0, 6, size):
        chosen = order[start : start + size]
        assert judge.judge([all_rounds[index] for index in chosen]) == [alone[index] for index in chosen]

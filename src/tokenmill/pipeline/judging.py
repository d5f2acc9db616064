"""Rounds of answers are parsed and put before the validators of their stage and role, many rounds in one batch.

A validator that raises fails the rounds that made it raise, with its name, and no other: the batch is then taken apart.
An error that isn't the validator's, such as an embedding model that is gone, goes through and stops the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.pipeline.panel import Panel, ValidatorRaised, Verdict, panel
from tokenmill.pipeline.parse import Piece, parse
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.story import Heard, Judged
from tokenmill.validate import Embed, Item, Score


class Round(Struct, frozen=True, kw_only=True):
    """All answers of one round, by the keys of their prompts, in order; None for a prompt that failed for good.

    `failures` say why those failed. `others` are texts that items mustn't repeat.
    """

    stage: str
    answers: dict[str, str | None]
    failures: dict[str, str] = {}
    reference: str = ""
    others: tuple[str, ...] = ()
    fields: dict[str, str] = {}


class Judgement(Struct, frozen=True, kw_only=True):
    """What came of one prompt: what its story hears, and the scores of each item, by its number."""

    key: str
    heard: Heard
    scores: tuple[tuple[int, Score], ...] = ()


class _Case(Struct):
    """One item on its way through the checks."""

    round: int
    key: str
    number: int
    piece: Piece
    item: Item
    verdict: Verdict | None = None


class Judge:
    """The validators of a recipe, made once; `judge` may be called from one thread at a time."""

    def __init__(self, recipe: Recipe, embed: Embed | None = None) -> None:
        self._recipe = recipe
        self._panels = {
            (stage.name, role): panel(stage, role, embed) for stage in recipe.stages for role in stage.roles
        }

    def judge(self, rounds: Sequence[Round]) -> list[list[Judgement]]:
        """The judgements of each round, one for each of its prompts, in their order."""
        wholes: list[dict[str, Heard]] = [{} for _ in rounds]
        cases: list[_Case] = []
        for index, each in enumerate(rounds):
            cases += self._cases(index, each, wholes[index])
        broken: dict[int, str] = {}
        by_panel: dict[tuple[str, str], list[_Case]] = {}
        of_prompt: dict[tuple[int, str], list[_Case]] = {}
        for case in cases:
            by_panel.setdefault((rounds[case.round].stage, case.piece.role), []).append(case)
            of_prompt.setdefault((case.round, case.key), []).append(case)
        for name, own in by_panel.items():
            _put(self._panels[name], own, broken)
        return [
            [
                _judgement(key, heard, of_prompt.get((index, key), []), broken.get(index, ""))
                for key, heard in whole.items()
            ]
            for index, whole in enumerate(wholes)
        ]

    def _cases(self, index: int, each: Round, whole: dict[str, Heard]) -> Iterable[_Case]:
        """The items of a round, each with what it mustn't repeat; notes what is to be said of each whole answer."""
        stage = self._recipe.stage(each.stage)
        others = list(each.others)
        for key, answer in each.answers.items():
            if answer is None:
                whole[key] = Heard(reason=_sentence(each.failures.get(key, "the prompt failed")), is_answered=False)
                continue
            parsed = parse(stage.parse, answer, stage.name)
            whole[key] = Heard(reason=_sentence(parsed.reason))
            for number, piece in enumerate(parsed.pieces, 1):
                item = Item(
                    text=piece.text,
                    reference=each.reference,
                    role=piece.role,
                    others=tuple(others),
                    fields=each.fields,
                )
                others.append(piece.text)
                yield _Case(index, key, number, piece, item)


def _put(members: Panel, cases: list[_Case], broken: dict[int, str]) -> None:
    """Puts items before a panel: all at once, and if that raises, round by round."""
    try:
        _ask(members, cases)
        return
    except ValidatorRaised:
        by_round: dict[int, list[_Case]] = {}
    for case in cases:
        by_round.setdefault(case.round, []).append(case)
    for index, own in by_round.items():
        try:
            _ask(members, own)
        except ValidatorRaised as error:
            broken[index] = str(error)


def _ask(members: Panel, cases: list[_Case]) -> None:
    for case, verdict in zip(cases, members.judge([case.item for case in cases]), strict=True):
        case.verdict = verdict


def _judgement(key: str, heard: Heard, own: list[_Case], broken: str) -> Judgement:
    if broken:
        return Judgement(key=key, heard=replace(heard, broken=broken))
    scores = tuple((case.number, score) for case in own for score in (case.verdict.scores if case.verdict else ()))
    return Judgement(key=key, heard=replace(heard, items=tuple(map(_judged, own))), scores=scores)


def _judged(case: _Case) -> Judged:
    verdict = case.verdict or Verdict()
    failed = [score for score in verdict.scores if not score.passed]
    reasons = [_sentence(score.reason) or f"The check {score.validator} failed." for score in failed]
    return Judged(
        number=case.number,
        role=case.piece.role,
        text=case.piece.text,
        data=case.piece.data,
        passed=verdict.passed,
        value=case.piece.value,
        merit=verdict.merit,
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _sentence(text: str) -> str:
    """Text as a sentence, for it may go into a prompt between others."""
    if not text:
        return ""
    whole = text[0].upper() + text[1:]
    return whole if whole[-1] in ".!?" else f"{whole}."

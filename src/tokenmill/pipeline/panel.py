"""The validators of one stage and role together: who is asked first, and what their scores come to.

An item passes if every score passed. Validators that build on others come after them, and see what those found.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Sequence
from difflib import get_close_matches

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.errors import InputFaults, TokenmillError
from tokenmill.pipeline.recipe import Check, Stage
from tokenmill.validate import Embed, Item, Score, Validator, validator
from tokenmill.validate.quote import shown


class ValidatorRaised(Exception):
    """A validator raised instead of judging; it is named, as its stack means nothing to a reader of the record."""

    MOST_TOLD = 200

    def __init__(self, name: str, error: BaseException) -> None:
        said = shown(str(error), self.MOST_TOLD)
        super().__init__(f"validator {name!r} raised {type(error).__name__}{': ' if said else ''}{said}")


class Verdict(Struct, frozen=True):
    """The scores of one item, in the order in which its validators were asked."""

    scores: tuple[Score, ...] = ()

    @property
    def passed(self) -> bool:
        return all(score.passed for score in self.scores)

    @property
    def merit(self) -> float:
        """The share of validators that it passed: of several failed attempts, the best has most."""
        return round(sum(score.passed for score in self.scores) / len(self.scores), 6) if self.scores else 1.0


class Panel:
    """Validators in an order in which each finds the scores that it needs."""

    def __init__(self, validators: Sequence[Validator]) -> None:
        self.validators = tuple(validators)

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        """A verdict for each item, in their order; each validator sees all items at once.

        Raises `ValidatorRaised`, and then for all of them.
        """
        scores: list[list[Score]] = [[] for _ in items]
        for one in self.validators:
            given = [
                replace(
                    item,
                    scores={score.validator: score.value for score in found},
                    reasons={score.validator: score.reason for score in found if score.reason},
                )
                for item, found in zip(items, scores, strict=True)
            ]
            for found, score in zip(scores, _asked(one, given), strict=True):
                found.append(score)
        return [Verdict(tuple(found)) for found in scores]


def panel(stage: Stage, role: str, embed: Embed | None) -> Panel:
    """The validators of items of one role.

    Raises:
        InputFaults: a check is wrong, two have one name, one needs a score that no other gives, or two need each
            other; all faults together.
        UsageError: a library that a validator needs isn't installed.
    """
    faults: list[str] = []
    made: dict[str, Validator] = {}
    for check in stage.checks:
        if check.roles and role not in check.roles:
            continue
        if check.called in made:
            faults.append(f"two checks are called {check.called!r}; give one of them a name of its own")
            continue
        try:
            made[check.called] = validator(check.use, check.options, name=check.called, embed=embed)
        except InputFaults as error:
            faults += [f"check {check.called!r}: {fault}" for fault in error.faults]
    faults += [fault for one in made.values() for fault in _missing(one, role, stage.checks)]
    ordered = _ordered(made, faults)
    if faults:
        raise InputFaults(f"stage {stage.name!r}", faults)
    return Panel(ordered)


def _asked(one: Validator, items: Sequence[Item]) -> list[Score]:
    try:
        scores = one.check(items)
        if len(scores) != len(items):
            raise ValueError(f"it gave {len(scores)} scores for {len(items)} items")
    except TokenmillError:
        raise
    except (Exception, SystemExit, GeneratorExit, CancelledError) as error:  # code of users may raise anything
        raise ValidatorRaised(one.name, error) from error
    return scores


def _missing(one: Validator, role: str, checks: Sequence[Check]) -> list[str]:
    known = [check.called for check in checks if not check.roles or role in check.roles]
    faults = []
    for need in one.needs:
        if need not in known:
            near = get_close_matches(need, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"add a check called {need!r}, or leave it out"
            faults.append(f"check {one.name!r}: uses the score {need!r}, which no check of {role!r} gives; {hint}")
    return faults


def _ordered(made: dict[str, Validator], faults: list[str]) -> list[Validator]:
    """Each after those it needs, else as they were given; those in a circle are a fault."""
    ordered: list[Validator] = []
    waiting = dict(made)
    while waiting:
        ready = [one for one in waiting.values() if not any(need in waiting for need in one.needs)]
        if not ready:
            faults.append(f"checks {', '.join(map(repr, waiting))} need each other's scores, so none can be first")
            break
        ordered += ready
        for one in ready:
            del waiting[one.name]
    return ordered

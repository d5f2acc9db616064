"""The validators of one stage together: who is asked first, and what their scores come to.

An item is accepted if every score passed. Validators that build on others come after them; one that only measures, as
an agreement without limits, passes always, and leaves the verdict to a rule.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from tokenmill.errors import InputFaults
from tokenmill.validate.judge import Judge
from tokenmill.validate.registry import kind_of, kinds, validator
from tokenmill.validate.rule import Rule
from tokenmill.validate.score import Embed, Item, Score, Validator


class Spec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A validator as a recipe says it: its `kind`, the `name` of its scores (else the kind), and its options."""

    kind: str
    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def called(self) -> str:
        return self.name or self.kind


class Verdict(Struct, frozen=True, kw_only=True):
    """The scores of one item, in the order in which its validators were asked, and why it didn't pass."""

    scores: tuple[Score, ...]
    reasons: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every validator passed it."""
        return all(score.passed for score in self.scores)

    @property
    def rejected_by(self) -> tuple[str, ...]:
        """The validators that didn't pass it, for counts."""
        return tuple(score.validator for score in self.scores if not score.passed)

    @property
    def passes(self) -> int:
        """How many validators passed it: of several failed attempts, the best has the most."""
        return sum(score.passed for score in self.scores)


class Panel:
    """Validators in an order in which each finds the scores that it needs."""

    def __init__(self, validators: Sequence[Validator]) -> None:
        self.validators = tuple(validators)

    @property
    def judges(self) -> tuple[Judge, ...]:
        """The models to be asked before `judge`: their answers go into `Item.fields` under the judge's name."""
        return tuple(one for one in self.validators if isinstance(one, Judge))

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        """A verdict for each item, in their order; each validator sees all items at once."""
        values = [dict(item.scores) for item in items]
        scores: list[list[Score]] = [[] for _ in items]
        for one in self.validators:
            seen = [msgspec.structs.replace(item, scores=known) for item, known in zip(items, values, strict=True)]
            for number, score in enumerate(one.check(seen)):
                scores[number].append(score)
                values[number][score.validator] = score.value
        return [
            Verdict(scores=tuple(found), reasons=tuple(self._reasons(item.role, found)))
            for item, found in zip(items, scores, strict=True)
        ]

    def _reasons(self, role: str, scores: Sequence[Score]) -> Iterator[str]:
        """The reason of each failure, and after that of a rule what the scores it names found."""
        values = {score.validator: score.value for score in scores}
        said = {score.validator: score for score in scores}
        given: set[str] = set()
        for one in self.validators:
            score = said[one.name]
            if score.passed:
                continue
            named = one.unmet(role, values) if isinstance(one, Rule) else ()
            for reason in (score.reason, *(said[name].reason for name in named if name in said)):
                if reason and reason not in given:
                    given.add(reason)
                    yield reason


def panel(specs: Sequence[Spec], *, embed: Embed | None = None) -> Panel:
    """The validators of these specs, in an order that works.

    Raises:
        InputFaults: a spec is wrong, two have one name, one needs a score that no other gives, two need each other, or
            a rule has a threshold that its score never reaches; all faults together.
    """
    faults: list[str] = []
    made: dict[str, Validator] = {}
    known: dict[str, Spec] = {}
    for spec in specs:
        if known.setdefault(spec.called, spec) is not spec:
            faults.append(f"two validators are called {spec.called!r}; give one of them a name of its own")
            continue
        try:
            made[spec.called] = validator(spec.kind, spec.options, name=spec.called, embed=embed)
        except InputFaults as error:
            faults += [f"validator {spec.called!r}: {fault}" for fault in error.faults]
    for one in made.values():
        faults += _missing(one, known)
        if isinstance(one, Rule):
            faults += _out_of_scale(one, known)
    ordered = _ordered(made, faults)
    if faults:
        raise InputFaults("validators", faults)
    return Panel(ordered)


def _missing(one: Validator, known: dict[str, Spec]) -> Iterator[str]:
    for need in one.needs:
        if need not in known:
            near = difflib.get_close_matches(need, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; add a validator called {need!r}, or leave it out."
            yield f"validator {one.name!r} uses the score {need!r}, which no validator gives{hint}"


def _out_of_scale(rule: Rule, known: dict[str, Spec]) -> Iterator[str]:
    """Thresholds that say nothing, as the score is always on one side of them."""
    for need, limit in rule.thresholds:
        scale = kind_of(known[need].kind).scale if need in known and known[need].kind in kinds() else None
        if scale is not None and not scale[0] <= limit <= scale[1]:
            reach = f"its scores go from {scale[0]:g} to {scale[1]:g}"
            yield f"validator {rule.name!r}: threshold {limit:g} for {need!r} is out of range; {reach}"


def _ordered(made: dict[str, Validator], faults: list[str]) -> list[Validator]:
    """Each after those it needs, else as they were given; those in a circle are a fault."""
    ordered: dict[str, Validator] = {}
    waiting = dict(made)
    while waiting:
        ready = [one for one in waiting.values() if not any(need in waiting for need in one.needs)]
        if not ready:
            faults.append(f"validators {', '.join(map(repr, waiting))} need each other's scores, so none can be first")
            break
        for one in ready:
            ordered[one.name] = waiting.pop(one.name)
    return list(ordered.values())

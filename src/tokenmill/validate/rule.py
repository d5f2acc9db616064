"""Whether the scores of an item satisfy the condition for its role: rules and profiles of strictness are data."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files

from msgspec import field

from tokenmill.validate.expression import BadExpression, Condition, names, parse, thresholds
from tokenmill.validate.kind import Kind, Options
from tokenmill.validate.registry import kind_of, kinds
from tokenmill.validate.score import Item, Score


class RuleOptions(Options, frozen=True, kw_only=True):
    """`profile` is one that comes with the package; `rules` are conditions by role, and come before the profile's."""

    profile: str = ""
    rules: dict[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> dict[str, str]:
        """The condition of each role."""
        return profiles().get(self.profile, {}) | self.rules

    def faults(self) -> Iterable[str]:
        if self.profile and self.profile not in profiles():
            near = difflib.get_close_matches(self.profile, profiles(), 1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            yield f"there is no profile {self.profile!r}{hint} Known: {', '.join(profiles())}"
        elif not self.texts:
            yield "it has no rule; name a profile, or give rules by role"
        for role, text in self.rules.items():
            try:
                yield from (f"the rule for {role!r}: {fault}" for fault in _out_of_scale(parse(text)))
            except BadExpression as error:
                yield f"the rule for {role!r}: {error}"


def _out_of_scale(condition: Condition) -> Iterator[str]:
    """Thresholds that decide nothing, as the score is always on one side of them; of scores called as their kind is."""
    for name, limit in thresholds(condition):
        scale = kind_of(name).scale if name in kinds() else None
        if scale is not None and not scale[0] <= limit <= scale[1]:
            yield f"threshold {limit:g} for {name!r} is out of range; its scores go from {scale[0]:g} to {scale[1]:g}"


@cache
def profiles() -> dict[str, dict[str, str]]:
    """The profiles of strictness by name: conditions by role."""
    return tomllib.loads((files("tokenmill.validate") / "profiles.toml").read_text(encoding="utf-8"))


class Rule:
    """Passes an item whose scores satisfy the condition for its role; its value is 1 then, else 0."""

    def __init__(self, name: str, options: RuleOptions) -> None:
        self.name = name
        self._conditions = {role: parse(text) for role, text in options.texts.items()}
        self.needs = tuple(dict.fromkeys(one for rule in self._conditions.values() for one in names(rule)))

    def check(self, items: Sequence[Item]) -> list[Score]:
        return [self._one(item) for item in items]

    def _one(self, item: Item) -> Score:
        condition = self._conditions.get(item.role)
        if condition is None:
            reason = f"No rule is for the role {item.role!r}; there are rules for {', '.join(self._conditions)}."
            return Score(validator=self.name, value=None, passed=False, reason=reason)
        if condition.holds(item.scores):
            return Score(validator=self.name, value=1.0, passed=True)
        return Score(validator=self.name, value=0.0, passed=False, reason=_reason(item, condition))


def _reason(item: Item, condition: Condition) -> str:
    """What isn't met, and after it what the validators of those scores said, as that tells what to change."""
    unmet = list(condition.unmet(item.scores))
    said = dict.fromkeys(one.said(item.scores) for one in unmet)
    more = dict.fromkeys(reason for one in unmet for name in one.names if (reason := item.reasons.get(name)))
    return " ".join([f"The text is no {item.role or 'item'} by the rule: {'; '.join(said)}.", *more])


KIND = Kind(RuleOptions, Rule, scale=(0.0, 1.0))

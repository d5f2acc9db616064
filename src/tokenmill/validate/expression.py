"""Conditions on scores, such as `embedding > 0.5 and (direction > 0.7 or landmark > 0.5)`, read into a tree.

    condition  = both { "or" both }
    both       = one { "and" one }
    one        = "not" one | "(" condition ")" | comparison
    comparison = operand ("<" | "<=" | ">" | ">=") operand { ("<" | "<=" | ">" | ">=") operand }
    operand    = name | number

A chain such as `0.3 < embedding < 0.92` holds if each link does. Nothing is evaluated as Python. A score without a
value makes its comparison neither true nor false (Kleene 1938, "On notation for ordinal numbers"): `or` may still hold
by its other side, and what stays undecided doesn't hold.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from msgspec import Struct

_TOKEN = re.compile(r"\s*(?:(<=|>=|<|>|\(|\))|(-?\d+(?:\.\d+)?(?![\w.]))|([A-Za-z_][\w-]*))")
_HOLDS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_WORDS = {"<": "below", "<=": "at most", ">": "above", ">=": "at least"}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
#: Brackets and `not` within each other; deeper ones are a mistake, and would take Python's stack.
_DEEPEST = 50
_LONGEST = 10_000

Scores: TypeAlias = Mapping[str, "float | None"]
Condition: TypeAlias = "Compare | Not | All | Any"


class BadExpression(ValueError):
    """A condition that can't be read; says where and what was expected."""


class Compare(Struct, frozen=True):
    """Two operands and what must hold between them; a name stands for a score."""

    left: str | float
    sign: str
    right: str | float

    def holds(self, scores: Scores) -> bool | None:
        left, right = _value(self.left, scores), _value(self.right, scores)
        return None if left is None or right is None else bool(_HOLDS[self.sign](left, right))

    def unmet(self, scores: Scores) -> Iterator[Compare]:
        if self.holds(scores) is not True:
            yield self

    def comparisons(self) -> Iterator[Compare]:
        yield self

    @property
    def names(self) -> tuple[str, ...]:
        """The scores it is about."""
        return tuple(side for side in (self.left, self.right) if isinstance(side, str))

    @property
    def turned(self) -> Compare:
        """The same with the name on the left, as one says it."""
        if isinstance(self.left, str):
            return self
        return Compare(self.right, _MIRRORED[self.sign], self.left)

    def said(self, scores: Scores) -> str:
        """What is wanted, and what is: `embedding is 0.4 and must be above 0.5`."""
        name, sign, limit = (turned := self.turned).left, turned.sign, turned.right
        value = _value(name, scores)
        found = f"{name} has no value" if value is None else f"{name} is {value:g}"
        return f"{found} and must be {_WORDS[sign]} {limit if isinstance(limit, str) else f'{limit:g}'}"


class Not(Struct, frozen=True):
    """Holds where its part doesn't."""

    part: Condition

    def holds(self, scores: Scores) -> bool | None:
        held = self.part.holds(scores)
        return None if held is None else not held

    def unmet(self, scores: Scores) -> Iterator[Compare]:
        if self.holds(scores) is not True:
            yield from (_contrary(one) for one in self.part.comparisons() if one.holds(scores) is not False)

    def comparisons(self) -> Iterator[Compare]:
        yield from self.part.comparisons()


class All(Struct, frozen=True):
    """Holds if every part does."""

    parts: tuple[Condition, ...]

    def holds(self, scores: Scores) -> bool | None:
        held = [part.holds(scores) for part in self.parts]
        return False if False in held else None if None in held else True

    def unmet(self, scores: Scores) -> Iterator[Compare]:
        for part in self.parts:
            yield from part.unmet(scores)

    def comparisons(self) -> Iterator[Compare]:
        for part in self.parts:
            yield from part.comparisons()


class Any(Struct, frozen=True):
    """Holds if one part does."""

    parts: tuple[Condition, ...]

    def holds(self, scores: Scores) -> bool | None:
        held = [part.holds(scores) for part in self.parts]
        return True if True in held else None if None in held else False

    def unmet(self, scores: Scores) -> Iterator[Compare]:
        if self.holds(scores) is not True:
            for part in self.parts:
                yield from part.unmet(scores)

    def comparisons(self) -> Iterator[Compare]:
        for part in self.parts:
            yield from part.comparisons()


def parse(text: str) -> Condition:
    """The tree of a condition.

    Raises:
        BadExpression: it can't be read.
    """
    if len(text) > _LONGEST:
        raise BadExpression(f"it has {len(text)} characters; at most {_LONGEST} are read")
    parser = _Parser(text)
    found = parser.condition(0)
    parser.finish()
    return found


def names(condition: Condition) -> tuple[str, ...]:
    """The scores that a condition is about, each once."""
    return tuple(dict.fromkeys(name for one in condition.comparisons() for name in one.names))


def thresholds(condition: Condition) -> Iterator[tuple[str, float]]:
    """Each score that is compared with a number, and the number."""
    for one in condition.comparisons():
        if isinstance(one.left, str) and isinstance(one.right, float):
            yield one.left, one.right
        elif isinstance(one.left, float) and isinstance(one.right, str):
            yield one.right, one.left


def _value(side: str | float, scores: Scores) -> float | None:
    return scores.get(side) if isinstance(side, str) else side


def _contrary(one: Compare) -> Compare:
    return Compare(one.left, {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}[one.sign], one.right)


class _Parser:
    """Reads tokens from the left; each method takes what its rule of the grammar says."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        place = 0
        while place < len(text.rstrip()):
            match = _TOKEN.match(text, place)
            if match is None:
                rest = text[place:].lstrip()
                start = len(text) - len(rest) + 1
                raise BadExpression(f"{rest[:20]!r} at character {start} is no name, number, sign or bracket")
            kind = ("sign", "number", "name")[(match.lastindex or 1) - 1]
            self._tokens.append((kind, match[match.lastindex or 0], match.start(match.lastindex or 0)))
            place = match.end()
        self._place = 0

    def condition(self, depth: int) -> Condition:
        parts = [self._both(depth)]
        while self._take("or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def finish(self) -> None:
        if self._place < len(self._tokens):
            raise self._fault("'and', 'or' or the end")

    def _both(self, depth: int) -> Condition:
        parts = [self._one(depth)]
        while self._take("and"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self, depth: int) -> Condition:
        if depth > _DEEPEST:
            raise BadExpression(f"brackets and 'not' are nested more than {_DEEPEST} deep")
        if self._take("not"):
            return Not(self._one(depth + 1))
        if self._take("("):
            inner = self.condition(depth + 1)
            if not self._take(")"):
                raise self._fault("')'")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        left, links = self._operand(), []
        while (sign := self._peek()[1]) in _HOLDS:
            self._place += 1
            right = self._operand()
            if isinstance(left, float) and isinstance(right, float):
                raise BadExpression(f"{left:g} {sign} {right:g} compares two numbers; name a score")
            links.append(Compare(left, sign, right))
            left = right
        if not links:
            raise self._fault("<, <=, > or >=")
        return links[0] if len(links) == 1 else All(tuple(links))

    def _operand(self) -> str | float:
        kind, word, _ = self._peek()
        if kind not in ("name", "number") or word in ("and", "or", "not"):
            raise self._fault("the name of a score or a number")
        self._place += 1
        return float(word) if kind == "number" else word

    def _peek(self) -> tuple[str, str, int]:
        if self._place < len(self._tokens):
            return self._tokens[self._place]
        return "end", "", len(self._text)

    def _take(self, word: str) -> bool:
        if self._peek()[1] != word:
            return False
        self._place += 1
        return True

    def _fault(self, wanted: str) -> BadExpression:
        kind, word, start = self._peek()
        found = "the end" if kind == "end" else repr(word)
        return BadExpression(f"expected {wanted} at character {start + 1}, found {found}")

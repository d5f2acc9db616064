"""The landmarks that a text names: things one can go by, and the marks that tell two of a kind apart.

Words are looked up in a table, `landmarks.toml`, to which a recipe may add its own. A thing that no table has is taken
from the words after a place word and an article, as in "towards the ziggurat"; so an unknown thing still compares.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from msgspec import Struct

from tokenmill.validate.words import fold

_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[.,;:!?()\n]")
_LONGEST_NAME = 4


class Landmark(Struct, frozen=True):
    """A thing by its name, and its marks by kind, such as `{"colour": "red"}`; `known` if a table has it."""

    name: str
    marks: tuple[tuple[str, str], ...] = ()
    known: bool = True

    def __str__(self) -> str:
        return " ".join([*(mark for _, mark in self.marks), self.name])


class Gazetteer:
    """A table of things, their kinds and their marks."""

    def __init__(self, table: Mapping[str, Any], more: Mapping[str, Sequence[str]]) -> None:
        self._names: dict[tuple[str, ...], str] = {}
        for name, others in [*table["landmarks"].items(), *more.items()]:
            for phrase in (name, *others):
                self._names[tuple(fold(phrase).split())] = name
        self._marks = {
            word: (kind, mark)
            for kind, marks in table["marks"].items()
            for mark, others in marks.items()
            for word in (mark, *others)
        }
        self._kinds = {(kind, name) for kind, names in table["kinds"].items() for name in names}
        grammar = {name: frozenset(words.split()) for name, words in table["grammar"].items()}
        self._articles, self._places, self._ends = grammar["articles"], grammar["places"], grammar["ends"]
        self._nothing, self._verbs = grammar["nothing"], grammar["verbs"]
        self._stops = self._ends | self._articles
        self._widest: dict[str, int] = {}
        for phrase in self._names:
            for first in _forms(phrase[0]) if len(phrase) == 1 else phrase[:1]:
                self._widest[first] = max(len(phrase), self._widest.get(first, 0))

    def landmarks(self, text: str) -> list[Landmark]:
        """What the text names, each once, in its order; "the red house" is told by "house" later on."""
        found = list(dict.fromkeys(self._named(_TOKEN.findall(fold(text)))))
        marked = {one.name for one in found if one.marks}
        return [one for one in found if one.marks or one.name not in marked]

    def alike(self, this: Landmark, that: Landmark) -> float:
        """1 for the same thing with the same marks; less with a mark on one side only; 0 with contrary marks."""
        if this.name != that.name:
            related = {(this.name, that.name), (that.name, this.name)} & self._kinds
            if not related:
                return 0.0
        these, those = dict(this.marks), dict(that.marks)
        shared = these.keys() & those.keys()
        if any(these[kind] != those[kind] for kind in shared):
            return 0.0
        complete = len(shared) == len(these.keys() | those.keys())
        return (1.0 if this.name == that.name else 0.5) * (1.0 if complete else 0.75)

    def _named(self, tokens: Sequence[str]) -> Iterator[Landmark]:
        end, after_article = 0, False
        for place, token in enumerate(tokens):
            is_after, after_article = after_article, token in self._articles
            if place < end or not (is_after or token in self._widest):
                continue
            name, width = self._known(tokens, place)
            if name:
                yield Landmark(name, self._marks_before(tokens, place))
            else:
                name, width = self._unknown(tokens, place)
                if name:
                    yield Landmark(name, self._marks_before(tokens, place + width - 1), known=False)
            end = place + width

    def _known(self, tokens: Sequence[str], place: int) -> tuple[str, int]:
        for width in range(min(self._widest.get(tokens[place], 0), len(tokens) - place), 0, -1):
            phrase = tuple(tokens[place : place + width])
            for last in _singulars(phrase[-1]):
                name = self._names.get((*phrase[:-1], last))
                if name and not self._is_verb(tokens, place, phrase):
                    return name, width
        return "", 1

    def _is_verb(self, tokens: Sequence[str], place: int, phrase: tuple[str, ...]) -> bool:
        """Words that are a thing only after an article or a mark: "bank left", "head home", "park", "step"."""
        if len(phrase) > 1 or _singulars(phrase[0])[-1] not in self._verbs:
            return False
        before = tokens[place - 1] if place else ""
        return before not in self._articles and before not in self._marks

    def _unknown(self, tokens: Sequence[str], place: int) -> tuple[str, int]:
        """A thing that no table has: after a place word and an article, the last word before one that ends a name."""
        before = tokens[place - 2 : place]
        if place < 2 or before[1] not in self._articles or before[0] not in self._places:
            return "", 1
        width = 0
        for token in tokens[place : place + _LONGEST_NAME]:
            if token in self._ends or not token[0].isalpha() or token.endswith(("ing", "ly")):
                break
            if self._known(tokens, place + width)[0]:
                return "", 1
            width += 1
        if not width:
            return "", 1
        name = _singulars(tokens[place + width - 1])[-1]
        return ("", 1) if name in self._nothing or name in self._marks else (name, width)

    def _marks_before(self, tokens: Sequence[str], place: int) -> tuple[tuple[str, str], ...]:
        marks: dict[str, str] = {}
        for back in range(place - 1, max(-1, place - 5), -1):
            mark = self._marks.get(tokens[back])
            if mark is None and (tokens[back] in self._stops or not tokens[back][0].isalnum()):
                break
            if mark is not None:
                marks.setdefault(*mark)
        return tuple(sorted(marks.items()))


def agreement(gazetteer: Gazetteer, these: Iterable[Landmark], those: Iterable[Landmark]) -> float | None:
    """How well two sets of landmarks agree: each counts by what is most like it in the other; None without any."""
    left, right = list(these)[:_COMPARED], list(those)[:_COMPARED]
    if not left and not right:
        return None
    total = 0.0
    for one, others in [*((one, right) for one in left), *((one, left) for one in right)]:
        total += max((gazetteer.alike(one, other) for other in others), default=0.0)
    return total / (len(left) + len(right))


#: Landmarks of one text that are compared; each meets each, and an instruction has a handful.
_COMPARED = 200


def _singulars(word: str) -> tuple[str, ...]:
    """The word, and what it may be the plural of, the most likely last."""
    if word.endswith("ies") and len(word) > 4:
        return word, f"{word[:-3]}y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word, word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is", "'s")) and len(word) > 3:
        return word, word[:-1]
    return (word,)


def _forms(word: str) -> tuple[str, ...]:
    """The words of which `_singulars` may make this one."""
    return word, f"{word}s", f"{word}es", *([f"{word[:-1]}ies"] if word.endswith("y") else [])


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads((files("tokenmill.validate") / "landmarks.toml").read_text(encoding="utf-8"))


def gazetteer(more: Mapping[str, Sequence[str]]) -> Gazetteer:
    """The table that comes with the package, and `more` landmarks: names, each with other words for the thing."""
    return Gazetteer(_table(), more)

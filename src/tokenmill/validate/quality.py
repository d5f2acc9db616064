"""How well made a text is, whatever it says: a stated formula, no model.

    quality = (clean * varied * flowing * finished * proportionate) ** (1/5)

`clean` is the share of characters that are letters, marks, digits, common punctuation or space. `varied` is
distinct-2, the share of pairs of words that differ. `flowing` is 1 less the share of words that only repeat the word
before. `finished` is 1 for a text that ends as a sentence does and 0.8 for another. `proportionate` is 1 from half to
double the words of the reference and falls in proportion beyond; it is 1 without a reference. The geometric mean lets
no part make up for one that is near 0.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from math import prod

from msgspec import Struct

from tokenmill.validate.bounds import Bounds
from tokenmill.validate.diversity import distinct
from tokenmill.validate.kind import Kind
from tokenmill.validate.score import Item, Score
from tokenmill.validate.words import words

_PUNCTUATION = frozenset(
    ".,;:!?'\"()-/%&+\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u00b0\u3002\uff0c\uff01\uff1f\n\t "
)
_ENDS = tuple(".!?\u2026\u3002\uff01\uff1f")
_CLOSING = "\"')\u2019\u201d \n\t"
_UNFINISHED = 0.8
#: Characters that are looked at one by one.
_READ = 100_000


class Quality(Struct, frozen=True, kw_only=True):
    """The parts of the formula, each from 0 to 1."""

    clean: float
    varied: float
    flowing: float
    finished: float
    proportionate: float

    @property
    def value(self) -> float:
        parts = (self.clean, self.varied, self.flowing, self.finished, self.proportionate)
        return float(prod(parts) ** (1 / len(parts)))

    @property
    def worst(self) -> str:
        """What to do about the lowest part."""
        said = {
            "clean": "it holds characters that belong in no sentence",
            "varied": "it repeats phrases",
            "flowing": "it repeats a word again and again",
            "finished": "it doesn't end as a sentence does",
            "proportionate": "its length is far from that of the reference",
        }
        return said[min(said, key=lambda part: getattr(self, part))]


def quality(text: str, reference: str = "") -> Quality | None:
    """The parts for a text, against its reference if there is one; None for a text without a word."""
    tokens = words(text)
    if not tokens:
        return None
    head = text[:_READ]
    repeats = sum(this == that for this, that in pairwise(tokens))
    wanted = len(words(reference))
    fit = min(1.0, 2 * min(len(tokens), wanted) / max(len(tokens), wanted)) if wanted else 1.0
    return Quality(
        clean=sum(map(_is_clean, head)) / len(head),
        varied=distinct(tokens, 2) or 1.0,
        flowing=1 - repeats / len(tokens),
        finished=1.0 if text[-200:].rstrip(_CLOSING).endswith(_ENDS) else _UNFINISHED,
        proportionate=fit,
    )


def _is_clean(char: str) -> bool:
    return char in _PUNCTUATION or unicodedata.category(char)[0] in "LMN"


class QualityScore:
    """Measures the formula, 0 to 1; a text without a word fails."""

    needs = ()

    def __init__(self, name: str, options: Bounds) -> None:
        self.name = name
        self._options = options

    def check(self, items: Sequence[Item]) -> list[Score]:
        return [self._one(item) for item in items]

    def _one(self, item: Item) -> Score:
        found = quality(item.text, item.reference)
        if found is None:
            return Score(validator=self.name, value=0.0, passed=False, reason="The text has no words.")
        detail = f"Most of all, {found.worst}." if found.value < 1 else ""
        return self._options.score(self.name, "The quality", found.value, detail)


KIND = Kind(Bounds, QualityScore, scale=(0.0, 1.0))

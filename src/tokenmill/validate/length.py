"""How long a text is, in characters and in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from tokenmill.validate.kind import Count, Kind, Options
from tokenmill.validate.score import Item, Score

#: Tokens that most vocabularies need for a word of English, where no tokenizer is at hand.
TOKENS_PER_WORD = 4 / 3
_WORD = re.compile(r"\S+")


class LengthOptions(Options, frozen=True, kw_only=True):
    """Limits, inclusive. Tokens are estimated from words, 4 for each 3, as no tokenizer is asked."""

    min_chars: Count = 0
    max_chars: Count | None = None
    min_words: Count = 1
    max_words: Count | None = None
    min_tokens: Count = 0
    max_tokens: Count | None = None

    def limits(self) -> Iterator[tuple[str, int, int | None]]:
        """Each unit with the least and the most of it."""
        yield "characters", self.min_chars, self.max_chars
        yield "words", self.min_words, self.max_words
        yield "tokens", self.min_tokens, self.max_tokens

    def faults(self) -> Iterable[str]:
        for unit, least, most in self.limits():
            if most is not None and most < least:
                yield f"at least {least} and at most {most} {unit} can't both be; give the smaller number as the least"


class Length:
    """Passes a text within all limits; its value is the number of words."""

    needs = ()

    def __init__(self, name: str, options: LengthOptions) -> None:
        self.name = name
        self._options = options

    def check(self, items: Sequence[Item]) -> list[Score]:
        return [self._one(item.text) for item in items]

    def _one(self, text: str) -> Score:
        words = sum(1 for _ in _WORD.finditer(text))
        sizes = {"characters": len(text), "words": words, "tokens": round(words * TOKENS_PER_WORD)}
        reasons = []
        for unit, least, most in self._options.limits():
            if sizes[unit] < least:
                reasons.append(f"The text has {sizes[unit]} {unit} and must have at least {least}.")
            elif most is not None and sizes[unit] > most:
                reasons.append(f"The text has {sizes[unit]} {unit} and must have at most {most}.")
        return Score(validator=self.name, value=float(words), passed=not reasons, reason=" ".join(reasons))


KIND = Kind(LengthOptions, Length)

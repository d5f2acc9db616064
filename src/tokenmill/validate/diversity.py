"""How many of the words of a text are new words.

The measure is distinct-n, runs of n words that differ over all runs (Li et al. 2016, "A diversity-promoting objective
function for neural conversation models"); with n = 1 it is the type-token ratio (Johnson 1944, "Studies in language
behavior"). It falls with the length of any text, so a window gives the mean over all windows of that many words instead
(Covington and McFall 2010, "Cutting the Gordian knot: the moving-average type-token ratio").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from tokenmill.validate.bounds import Bounds
from tokenmill.validate.kind import Kind
from tokenmill.validate.score import Item, Score
from tokenmill.validate.words import words


class DiversityOptions(Bounds, frozen=True, kw_only=True):
    """Runs of `n` words; over windows of `window` words, 0 for the whole text."""

    n: Annotated[int, Meta(ge=1, le=5)] = 1
    window: Annotated[int, Meta(ge=0, le=10_000)] = 0


def distinct(tokens: Sequence[str], n: int, window: int = 0) -> float | None:
    """The share of runs of `n` words that differ, from 0 to 1; None for a text with no such run."""
    runs = list(zip(*(tokens[start:] for start in range(n)), strict=False))
    if not runs:
        return None
    width = window - n + 1 if window >= n else len(runs)
    if width >= len(runs):
        return len(set(runs)) / len(runs)
    seen = Counter(runs[:width])
    total = len(seen)
    for gone, come in zip(runs, runs[width:], strict=False):
        seen[come] += 1
        seen[gone] -= 1
        if not seen[gone]:
            del seen[gone]
        total += len(seen)
    return total / (len(runs) - width + 1) / width


class Diversity:
    """Measures the share of new words, or of new runs of words."""

    needs = ()

    def __init__(self, name: str, options: DiversityOptions) -> None:
        self.name = name
        self._options = options

    def check(self, items: Sequence[Item]) -> list[Score]:
        return [self._one(item.text) for item in items]

    def _one(self, text: str) -> Score:
        value = distinct(words(text), self._options.n, self._options.window)
        detail = f"The text has fewer than {self._options.n} words." if value is None else ""
        what = "The share of words that don't repeat" if self._options.n == 1 else "The share of new phrases"
        return self._options.score(self.name, what, value, detail)


KIND = Kind(DiversityOptions, Diversity, scale=(0.0, 1.0))

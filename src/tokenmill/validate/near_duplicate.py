"""Whether a text is nearly another: how many short runs of characters the two share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from tokenmill.validate.duplicate import DuplicateOptions, compared
from tokenmill.validate.kind import Kind
from tokenmill.validate.quote import quoted
from tokenmill.validate.score import Item, Score
from tokenmill.validate.shingles import RUN, Shingled, jaccard


class NearOptions(DuplicateOptions, frozen=True, kw_only=True):
    """A text fails from a likeness of `threshold` on: Jaccard's measure of runs of `run` characters."""

    threshold: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.85
    run: Annotated[int, Meta(ge=1, le=20)] = RUN


class NearDuplicate:
    """Fails a text that is nearly another; its value is the greatest likeness, None with nothing to compare."""

    needs = ()

    def __init__(self, name: str, options: NearOptions) -> None:
        self.name = name
        self._options = options

    def check(self, items: Sequence[Item]) -> list[Score]:
        # The items of one answer are compared with each other, so each text comes many times.
        shingled = Shingled(self._options.run)
        return [self._one(item, shingled) for item in items]

    def _one(self, item: Item, shingled: Shingled) -> Score:
        pieces = shingled.of(item.text)
        found = [(jaccard(pieces, shingled.of(other)), what, other) for what, other in compared(item, self._options)]
        if not found:
            reason = "There is nothing to compare the text with."
            return Score(validator=self.name, value=None, passed=True, reason=reason)
        value, what, other = max(found, key=lambda one: one[0])
        if value < self._options.threshold:
            return Score(validator=self.name, value=round(value, 4), passed=True)
        reason = f"The text is nearly {what} ({value:.2f} alike): {quoted(other)}."
        return Score(validator=self.name, value=round(value, 4), passed=False, reason=reason)


KIND = Kind(NearOptions, NearDuplicate, scale=(0.0, 1.0))

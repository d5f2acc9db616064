"""Whether a text says again what another says, but for case, punctuation and space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenmill.validate.kind import Kind, Options
from tokenmill.validate.quote import quoted
from tokenmill.validate.score import Item, Score
from tokenmill.validate.words import normalised


class DuplicateOptions(Options, frozen=True, kw_only=True):
    """`of_reference` and `of_others` say what a text is compared with."""

    of_reference: bool = True
    of_others: bool = True


def compared(item: Item, options: DuplicateOptions) -> Iterator[tuple[str, str]]:
    """What a text is compared with, and how that is called."""
    if options.of_reference and item.reference:
        yield "the reference", item.reference
    if options.of_others:
        for other in item.others:
            yield "an earlier text", other


def _normalised(text: str, known: dict[str, str]) -> str:
    found = known.get(text)
    if found is None:
        found = known[text] = normalised(text)
    return found


class Duplicate:
    """Fails a text that equals another apart from case, punctuation and space; its value is 1 then, else 0."""

    needs = ()

    def __init__(self, name: str, options: DuplicateOptions) -> None:
        self.name = name
        self._options = options

    def check(self, items: Sequence[Item]) -> list[Score]:
        # The items of one answer are compared with each other, so each text comes many times.
        known: dict[str, str] = {}
        return [self._one(item, known) for item in items]

    def _one(self, item: Item, known: dict[str, str]) -> Score:
        text = _normalised(item.text, known)
        for what, other in compared(item, self._options):
            if _normalised(other, known) == text:
                reason = f"The text repeats {what}: {quoted(other)}."
                return Score(validator=self.name, value=1.0, passed=False, reason=reason)
        return Score(validator=self.name, value=0.0, passed=True)


KIND = Kind(DuplicateOptions, Duplicate, scale=(0.0, 1.0))

"""Whether a text matches a pattern, or doesn't."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from msgspec import Meta

from tokenmill.validate.kind import Kind, Options
from tokenmill.validate.pattern import BadPattern, Pattern
from tokenmill.validate.quote import quoted
from tokenmill.validate.score import Item, Score


class RegexOptions(Options, frozen=True, kw_only=True):
    """`pattern` in the syntax of RE2. `match`: `search` finds it anywhere, `full` needs it to span the text, `none`
    refuses a text that holds it. `because` is the sentence that goes into the next prompt instead of the pattern.
    """

    pattern: Annotated[str, Meta(min_length=1, max_length=10_000)]
    match: Literal["search", "full", "none"] = "search"
    ignore_case: bool = False
    dot_all: bool = False
    because: Annotated[str, Meta(max_length=1_000)] = ""

    def compiled(self) -> Pattern:
        return Pattern(self.pattern, ignore_case=self.ignore_case, dot_all=self.dot_all)

    def faults(self) -> Iterable[str]:
        try:
            self.compiled()
        except BadPattern as error:
            yield f"pattern {quoted(self.pattern)} isn't one for RE2: {error}; look-around and \\1 don't exist there"


class Regex:
    """Passes by the pattern; its value is 1 where the pattern was found, else 0."""

    needs = ()

    def __init__(self, name: str, options: RegexOptions) -> None:
        self.name = name
        self._options = options
        self._pattern = options.compiled()
        said = {
            "search": f"The text must contain the pattern {quoted(options.pattern)}.",
            "full": f"The whole text must match the pattern {quoted(options.pattern)}.",
            "none": f"The text must not contain the pattern {quoted(options.pattern)}.",
        }
        self._reason = options.because or said[options.match]

    def check(self, items: Sequence[Item]) -> list[Score]:
        return [self._one(item.text) for item in items]

    def _one(self, text: str) -> Score:
        found = self._pattern.spans(text) if self._options.match == "full" else self._pattern.found_in(text)
        passed = found is not (self._options.match == "none")
        return Score(validator=self.name, value=float(found), passed=passed, reason="" if passed else self._reason)


KIND = Kind(RegexOptions, Regex, scale=(0.0, 1.0))

"""Whether a text is in the language wanted.

The library is py3langid: 140 languages in 4.6 MB that come with it, so it works without a network, and it is pure
Python with numpy. Lingua is a little better on single words and takes 96 MB; fastText's model must be fetched.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Annotated, Any

from msgspec import Meta

from tokenmill.errors import UsageError
from tokenmill.validate.kind import Kind, Options, Share
from tokenmill.validate.score import Item, Score
from tokenmill.validate.words import words

#: A language shows within a page; more would only cost time.
_READ = 4_000

Code = Annotated[str, Meta(pattern="^[a-z]{2,3}$")]


class LanguageOptions(Options, frozen=True, kw_only=True):
    """`language` as ISO 639 has it, such as `en`. A text passes from a probability of `at_least` on.

    `among`: the languages it could be, all where it is empty. A text of fewer than `min_words` words is too short to
    tell, and passes without a value, unless it has letters that aren't Latin. The first 4,000 characters are read.
    """

    language: Code
    at_least: Share = 0.5
    among: tuple[Code, ...] = ()
    min_words: Annotated[int, Meta(ge=1, le=1_000)] = 4

    def faults(self) -> Iterable[str]:
        known = set(_identifier(()).labels)
        for code in (self.language, *self.among):
            if code not in known:
                yield f"language {code!r} isn't one of the {len(known)} known, such as en, de, fr, zh"
        if self.among and self.language not in self.among:
            yield f"among doesn't hold {self.language!r}, so no text could pass; add it"


class Language:
    """Passes by the probability of the wanted language, which is the value."""

    needs = ()

    def __init__(self, name: str, options: LanguageOptions) -> None:
        self.name = name
        self._options = options

    def check(self, items: Sequence[Item]) -> list[Score]:
        return [self._one(item.text) for item in items]

    def _one(self, text: str) -> Score:
        page = text[:_READ]
        if len(words(page)) < self._options.min_words and not any(map(_is_of_another_script, page)):
            return Score(validator=self.name, value=None, passed=True, reason="The text is too short to tell.")
        ranked = _identifier(self._options.among).rank(_joined(page))
        value = round(dict(ranked).get(self._options.language, 0.0), 4)
        passed = value >= self._options.at_least
        reason = (
            "" if passed else f"The text must be in the language {self._options.language!r}{self._but(ranked, value)}."
        )
        return Score(validator=self.name, value=value, passed=passed, reason=reason)

    def _but(self, ranked: Sequence[tuple[str, float]], value: float) -> str:
        likeliest = ranked[0][0]
        if likeliest == self._options.language:
            return f", of which it is only {value:g} sure"
        return f" and reads like {likeliest!r}"


def _is_of_another_script(char: str) -> bool:
    """Whether this is a letter beyond Latin ones; marks, signs and letters that only modify another are none."""
    if char < "\u0250" or unicodedata.category(char) not in ("Lu", "Ll", "Lt", "Lo"):
        return False
    return "LATIN" not in unicodedata.name(char, "")


def _joined(text: str) -> str:
    """The text without what is no character, which the library would read as bytes of some script."""
    return text.encode("utf-8", "ignore").decode("utf-8")


@cache
def _identifier(among: tuple[str, ...]) -> Any:
    """The library's identifier; one for each set of languages, as it takes a second to load."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise UsageError(
            'the language needs the library py3langid; install it with: pip install "tokenmill[validate]"'
        ) from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(among) or None)
    return identifier


KIND = Kind(LanguageOptions, Language, scale=(0.0, 1.0))

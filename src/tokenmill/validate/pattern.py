"""Regular expressions that take time in proportion to the text, whatever the expression and whatever the text.

The engine is RE2. Python's own `re` goes back and tries again, so that `(a+)+$` on forty letters takes longer than a
run, in code that no signal interrupts; a time limit, as the `regex` library has, would make a verdict depend on how
busy the machine is. RE2 has no look-around and no back-references, which is said when the pattern is read.
"""

from __future__ import annotations

from typing import Any

from tokenmill.errors import UsageError

#: What RE2 may take for one pattern; it then stops growing its tables, and refuses a pattern that is too large.
_MEMORY = 8 << 20


class BadPattern(ValueError):
    """A pattern that RE2 doesn't take, in its words."""


class Pattern:
    """One compiled pattern."""

    def __init__(self, text: str, *, ignore_case: bool = False, dot_all: bool = False, literal: bool = False) -> None:
        re2 = _engine()
        options = re2.Options()
        options.log_errors = False
        options.max_mem = _MEMORY
        options.case_sensitive = not ignore_case
        options.dot_nl = dot_all
        options.literal = literal
        try:
            self._compiled: Any = re2.compile(text, options=options)
        except re2.error as error:
            raise BadPattern(_words(error)) from error
        except UnicodeEncodeError as error:
            raise BadPattern("it holds a lone surrogate, which is no character") from error

    def found_in(self, text: str) -> bool:
        """Whether the pattern is found anywhere in the text."""
        return self._compiled.search(whole(text)) is not None

    def spans(self, text: str) -> bool:
        """Whether the pattern takes the text from its first to its last character."""
        return self._compiled.fullmatch(whole(text)) is not None


def whole(text: str) -> str:
    """The text as UTF-8 can hold it: a lone surrogate, which is no character, becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _engine() -> Any:
    try:
        import re2
    except ImportError as error:
        raise UsageError(
            'patterns need the library google-re2; install it with: pip install "tokenmill[validate]"'
        ) from error
    return re2


def _words(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)

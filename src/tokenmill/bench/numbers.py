"""Lists in options: numbers and names separated by commas."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from tokenmill.errors import UsageError


def words_in(text: str) -> list[str]:
    """What is between the commas, each word once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def names_in(option: str, text: str, known: Sequence[str]) -> list[str]:
    """Names in the order in which they are given.

    Raises:
        UsageError: there is none, or one of them is not known.
    """
    words = words_in(text)
    unknown = [word for word in words if word not in known]
    if not words:
        raise UsageError(f"{option}: an empty list; known: {', '.join(known)}")
    if unknown:
        near = get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"{option}: {unknown[0]!r} is unknown; {hint}known: {', '.join(known)}")
    return words


def numbers_in(option: str, text: str) -> list[int]:
    """Whole numbers from 1, in rising order.

    Raises:
        UsageError: there is none, or one of them is no such number.
    """
    words = words_in(text)
    wrong = [word for word in words if not (word.isascii() and word.isdigit() and int(word) >= 1)]
    if wrong or not words:
        said = repr(wrong[0]) if wrong else "an empty list"
        raise UsageError(f"{option}: {said} is no whole number from 1; give a list such as 1,2,4")
    return sorted({int(word) for word in words})

"""Lists in options: numbers and names separated by commas."""

from __future__ import annotations

from tokenmill.errors import UsageError


def words_in(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


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

"""Functions that recipes of the tests name as validators."""

from __future__ import annotations

from tokenmill.validate import Item


def picky(item: Item) -> object:
    """Raises over one word, as the validators of users do."""
    if "boom" in item.text:
        raise ZeroDivisionError("no such word")
    return True

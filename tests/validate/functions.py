"""Functions that a recipe could name as its own validators."""

from __future__ import annotations

from tokenmill.validate import Item


def is_short(item: Item) -> bool:
    return len(item.text) < 10


def share(item: Item) -> tuple[float, str]:
    return len(item.text) / 10, "Write more."


def broken(item: Item) -> float:
    return 1 / len(item.text)


def wrong(item: Item) -> list[str]:
    return [item.text]


def not_a_number(item: Item) -> float:
    return float("nan")


CONSTANT = 3

"""Text of an answer shown within a sentence: short, on one line, and safe to store and to print."""

from __future__ import annotations

SHOWN = 60


def shown(text: str, most: int = SHOWN) -> str:
    """The text cut to `most` characters; what can't be printed is escaped, lone surrogates too."""
    cut = text[:most]
    safe = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in cut)
    return f"{safe}{'...' if len(text) > most else ''}"


def quoted(text: str, most: int = SHOWN) -> str:
    """The same in quotation marks."""
    return f'"{shown(text, most)}"'

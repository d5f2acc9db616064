"""Text from outside as text: whatever could steer a reader, reorder letters or run as a formula becomes visible."""

from __future__ import annotations

#: What spreadsheets take for the start of a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def visible(text: str) -> str:
    """`text` with control characters, line ends, bidirectional marks and lone surrogates as escapes."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def shortened(text: str, most: int) -> str:
    """At most `most` letters of `text`, made visible; how many are left out is said."""
    shown = visible(text[:most])
    return shown if len(text) <= most else f"{shown} \u2026 ({len(text) - most:,} more characters)"


def cell(text: str) -> str:
    """`text` for a spreadsheet: visible, and never a formula."""
    shown = visible(text)
    return f"'{shown}" if text.lstrip(" ").startswith(FORMULA_STARTS) else shown

"""The colours of a report: each has a name, and a value on light and on dark paper.

Charts are drawn in the light values; on a page each becomes a CSS variable, so a chart follows the reader's scheme. The
hues are those of Okabe and Ito, which people with any kind of colour vision can tell apart, darkened or lightened until
they stand out from the paper by 3:1, text by 4.5:1. No chart leaves its meaning to colour alone.
"""

from __future__ import annotations

#: Name: (on light paper, on dark paper). Every value is used once, so that it names its ink.
INKS = {
    "paper": ("#ffffff", "#14171c"),
    "card": ("#f6f7f9", "#1c2027"),
    "ink": ("#1a1d23", "#e8eaee"),
    "soft": ("#565d69", "#a4acb9"),
    "line": ("#d9dde3", "#363c47"),
    "link": ("#0b5cad", "#7ab8f5"),
    "blue": ("#0072b2", "#56a9e4"),
    "sky": ("#7fb6dc", "#2f6791"),
    "green": ("#00795a", "#35bf97"),
    "orange": ("#b86e00", "#e69f00"),
    "red": ("#c2410c", "#f2794a"),
    "purple": ("#a4508b", "#dc93c3"),
    "grey": ("#868d99", "#79818e"),
}


def light(name: str) -> str:
    return INKS[name][0]


def variables(*, dark: bool) -> str:
    """The inks as declarations of CSS variables."""
    return "".join(f"--{name}:{values[dark]};" for name, values in INKS.items())

"""Which texts are computed together, decided with plain ints.

Only texts of one rounded length go together, so nothing of a batch is padding but what rounding adds, and each text is
computed at the same width whatever came beside it: a vector's bits then depend on its text alone, as far as the
arithmetic does (on CPUs with oneDNN they do; batches of mixed lengths gave other last bits for half of the texts). A
batch of a few texts costs no more than the same texts in a wider one: from 60 tokens on, arithmetic takes longer than
fetching the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

#: Tokens by which lengths are rounded up. Less makes many small batches, more makes padding.
STEP = 4
#: Tokens of one batch, padding included. More gain nothing: from 512 on, the arithmetic of a CPU core runs at its peak.
TOKENS = 2048


class Batch(Struct, frozen=True):
    """Texts by number, and the tokens that each is filled up to."""

    texts: list[int]
    width: int


def cut_batches(lengths: Sequence[int], longest: int, tokens: int = TOKENS) -> list[Batch]:
    """All texts, longest first, in batches of one width and at most `tokens` places; a longer text alone."""
    widths: dict[int, list[int]] = {}
    for text, length in enumerate(lengths):
        widths.setdefault(min(longest, -(-length // STEP) * STEP), []).append(text)
    return [
        Batch(texts[start : start + count], width)
        for width, texts in sorted(widths.items(), reverse=True)
        for count in [max(1, tokens // width)]
        for start in range(0, len(texts), count)
    ]

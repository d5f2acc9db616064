"""Which texts are computed together, decided with plain ints.

Texts of about the same length go together, so little of a batch is padding. Lengths are rounded up to a multiple of
`STEP`: each new shape costs the CPU library milliseconds to prepare for, and what follows a rounded length is few.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

#: Tokens by which lengths are rounded up.
STEP = 4
#: Tokens of one batch, padding included. More gain nothing: the arithmetic of a CPU is busy by then.
TOKENS = 2048


class Batch(Struct, frozen=True):
    """Texts by number, and the tokens that each is filled up to."""

    texts: list[int]
    width: int


def cut_batches(lengths: Sequence[int], longest: int, tokens: int = TOKENS) -> list[Batch]:
    """All texts, longest first, in batches of at most `tokens` places; a longer text alone."""
    order = sorted(range(len(lengths)), key=lambda text: -lengths[text])
    batches: list[Batch] = []
    start = 0
    while start < len(order):
        width = min(longest, -(-lengths[order[start]] // STEP) * STEP)
        count = max(1, tokens // width)
        batches.append(Batch(order[start : start + count], width))
        start += count
    return batches

"""From scores of pieces to an order of merges: what sentencepiece stores as what byte-pair encoding wants."""

from __future__ import annotations

from collections.abc import Mapping


def scored_merges(scores: Mapping[str, float], vocabulary: Mapping[str, int]) -> list[list[str]]:
    """Every way to make a piece of two, the piece with the best score first.

    Sentencepiece joins the neighbours that make the best piece; a list of merges in this order does the same. Among
    ways to make the same piece, the one whose parts come first in the vocabulary is first.
    """
    found = [
        (-score, vocabulary[piece[:at]], vocabulary[piece[at:]], piece[:at], piece[at:])
        for piece, score in scores.items()
        for at in range(1, len(piece))
        if piece[:at] in vocabulary and piece[at:] in vocabulary
    ]
    return [[left, right] for _, _, _, left, right in sorted(found)]

"""How much two texts share, as sets of short runs of characters, and which of many share nearly all.

The measure is Jaccard's: runs in both over runs in either. It is exact, not estimated: MinHash would find pairs among
millions of long documents, and here items are sentences, of which an index by their rarest runs finds every pair that
reaches the threshold. Sources: Broder 1997, "On the resemblance and containment of documents"; Bayardo, Ma and Srikant
2007, "Scaling up all pairs similarity search".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import ceil

from tokenmill.validate.words import normalised

#: Characters in a run: shorter ones are in every English sentence, longer ones miss changed endings.
RUN = 4
#: What a product of a threshold and a size may be too large by; a head too long costs time, one too short a pair.
_ROUNDING = 1e-6


def shingles(text: str, run: int = RUN) -> frozenset[str]:
    """The runs of `run` characters of the text, normalised; a text shorter than that is one run, an empty one none."""
    line = normalised(text)
    if len(line) <= run:
        return frozenset([line] if line else [])
    return frozenset(line[start : start + run] for start in range(len(line) - run + 1))


def jaccard(these: frozenset[str], those: frozenset[str]) -> float:
    """What two sets share, from 0 to 1; two empty ones are equal."""
    if not these and not those:
        return 1.0
    both = len(these & those)
    return both / (len(these) + len(those) - both)


def repeats(texts: Sequence[str], threshold: float, run: int = RUN) -> list[int | None]:
    """For each text the first earlier one that it repeats, None where there is none.

    A text repeats another if their sets reach `threshold`, which is above 0. A repeat is not compared against later on:
    a chain of small changes ends where it leaves its first text.
    """
    sets = [shingles(text, run) for text in texts]
    common = Counter(piece for pieces in sets for piece in pieces)
    index: dict[str, list[int]] = {}
    found: list[int | None] = []
    for row, pieces in enumerate(sets):
        rarest = sorted(pieces, key=lambda piece: (common[piece], piece))
        # Two sets that reach the threshold share one of the rarest runs of each: the rest alone is too few.
        heads = rarest[: len(rarest) - ceil(threshold * len(rarest) - _ROUNDING) + 1] or [""]
        near = sorted({other for piece in heads for other in index.get(piece, ())})
        first = next((other for other in near if jaccard(sets[other], pieces) >= threshold), None)
        found.append(first)
        if first is None:
            for piece in heads:
                index.setdefault(piece, []).append(row)
    return found

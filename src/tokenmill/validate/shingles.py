"""How much two texts share, as sets of short runs of characters.

The measure is Jaccard's: runs in both over runs in either. It is exact, not estimated: MinHash would find pairs among
millions of long documents, and here items are sentences. Source: Broder 1997, "On the resemblance and containment of
documents".
"""

from __future__ import annotations

from tokenmill.validate.words import normalised

#: Characters in a run: shorter ones are in every English sentence, longer ones miss changed endings.
RUN = 4
#: Characters of texts whose runs are kept, which take up to a hundred times their size.
KEPT = 1 << 19


def shingles(text: str, run: int = RUN) -> frozenset[str]:
    """The runs of `run` characters of the text, normalised; a text shorter than that is one run, an empty one none."""
    line = normalised(text)
    if len(line) <= run:
        return frozenset([line] if line else [])
    return frozenset({line[start : start + run] for start in range(len(line) - run + 1)})


class Shingled:
    """The runs of texts, each found once; those of long texts are forgotten when `KEPT` characters are held."""

    def __init__(self, run: int = RUN) -> None:
        self._run = run
        self._known: dict[str, frozenset[str]] = {}
        self._held = 0

    def of(self, text: str) -> frozenset[str]:
        found = self._known.get(text)
        if found is None:
            found = shingles(text, self._run)
            if self._held > KEPT:
                self._known.clear()
                self._held = 0
            self._known[text] = found
            self._held += len(text)
        return found


def jaccard(these: frozenset[str], those: frozenset[str]) -> float:
    """What two sets share, from 0 to 1; two empty ones are equal."""
    if not these and not those:
        return 1.0
    both = len(these & those)
    return both / (len(these) + len(those) - both)

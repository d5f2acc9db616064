"""How many items of a data set are nearly an earlier one of the same stage and role, whatever row they are from.

Comparing each with each would take the square of their number. So each item leaves a signature in a temporary file;
those that share a part of it with an earlier one are compared with that one exactly, by the measure of the check
`near_duplicate`. Memory is bounded: under 100 bytes an item, and no more than `MOST` items are compared.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from msgspec import Struct

from tokenmill.validate.minhash import BAND, BANDS, NUMBERS, Signatures
from tokenmill.validate.shingles import jaccard, shingles
from tokenmill.validate.words import normalised

if TYPE_CHECKING:
    import numpy as np

#: Likeness from which on two items are nearly the same, as the check has it.
THRESHOLD = 0.85
#: Most items that are compared.
MOST = 1_000_000
#: Signatures that are read at a time.
CHUNK = 4096
#: Letters of an item that are compared.
LETTERS = 20_000
#: Earlier items that one is compared with exactly, at most, and how alike their signatures must be for that: of pairs
#: that are 0.85 alike 1 in 250 has fewer numbers in common.
TRIES, LIKELY = 4, THRESHOLD - 0.15


class Alikeness(Struct, frozen=True, kw_only=True):
    """What was found: `near` of the `compared` items are nearly an earlier one; None with the `reason` if unknown."""

    compared: int
    near: int | None
    threshold: float = THRESHOLD
    reason: str = ""


def near_words(found: dict[str, Any]) -> str:
    """What was found, as the card has it, for people."""
    if found["near"] is None:
        return f"n/a ({found['reason']})"
    more = f" ({found['reason']})" if found["reason"] else ""
    return f"{found['near']:,} of {found['compared']:,} items, {found['threshold']:g} or more like an earlier one{more}"


class Alike:
    """Takes items one by one, `most` of them, and counts at the end."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._reason = ""
        try:
            self._signatures: Signatures | None = Signatures()
        except ModuleNotFoundError:
            self._signatures = None
            self._reason = "numpy isn't installed: pip install 'tokenmill[validate]'"
        self._groups: dict[tuple[str, str], int] = {}
        self._group_of = array("I")
        self._ends = array("Q", [0])
        self._drawn, self._texts = _file(), _file()

    def __enter__(self) -> Alike:
        return self

    def __exit__(self, *_: object) -> None:
        self._drawn.close()
        self._texts.close()

    def add(self, stage: str, role: str, text: str) -> None:
        if self._signatures is None:
            return
        if len(self._group_of) == self._most:
            self._reason = f"only the first {self._most:,} items were compared"
            return
        line = normalised(text[:LETTERS])
        data = line.encode("utf-8", "surrogatepass")
        self._group_of.append(self._groups.setdefault((stage, role), len(self._groups)))
        self._ends.append(self._ends[-1] + len(data))
        self._texts.write(data)
        self._drawn.write(self._signatures.of(line).tobytes())

    def count(self) -> Alikeness:
        """How many of the items are nearly an earlier one."""
        compared = len(self._group_of)
        if self._signatures is None:
            return Alikeness(compared=0, near=None, reason=self._reason)
        return Alikeness(compared=compared, near=self._near() if compared > 1 else 0, reason=self._reason)

    def _near(self) -> int:
        import numpy

        self._drawn.flush()
        self._texts.flush()
        groups = numpy.frombuffer(self._group_of, dtype=numpy.uint32)
        is_near = numpy.zeros(len(groups), dtype=bool)
        tries = numpy.zeros(len(groups), dtype=numpy.uint8)
        for band in range(BANDS):
            for earlier, later in _pairs(numpy, self._part(numpy, band), groups):
                if is_near[later] or tries[later] == TRIES or earlier == later:
                    continue
                if (self._rows(numpy, earlier) == self._rows(numpy, later)).mean() >= LIKELY:
                    tries[later] += 1
                    is_near[later] = jaccard(self._runs(earlier), self._runs(later)) >= THRESHOLD
        return int(is_near.sum())

    def _part(self, numpy: Any, band: int) -> np.ndarray:
        """One band of all signatures; a map of the whole file would count as memory of this process."""
        part: np.ndarray = numpy.empty((len(self._group_of), BAND), numpy.uint32)
        for start in range(0, len(part), CHUNK):
            part[start : start + CHUNK] = self._rows(numpy, start, CHUNK)[:, band * BAND : (band + 1) * BAND]
        return part

    def _rows(self, numpy: Any, first: int, count: int = 1) -> np.ndarray:
        data = os.pread(self._drawn.fileno(), 4 * NUMBERS * count, 4 * NUMBERS * first)
        rows: np.ndarray = numpy.frombuffer(data, numpy.uint32).reshape(-1, NUMBERS)
        return rows

    def _runs(self, number: int) -> frozenset[str]:
        start, end = self._ends[number], self._ends[number + 1]
        return shingles(os.pread(self._texts.fileno(), end - start, start).decode("utf-8", "surrogatepass"))


def _file() -> IO[bytes]:
    """A file without a name, which is gone with its owner."""
    return tempfile.TemporaryFile(prefix="tokenmill-")


def _pairs(numpy: Any, part: np.ndarray, groups: np.ndarray) -> Iterator[tuple[int, int]]:
    """Items that have these numbers of their signatures in common: each with the first and with the one before it."""
    keys = groups.astype(numpy.uint64)
    for column in range(BAND):
        keys = (keys ^ part[:, column]) * numpy.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> numpy.uint64(29)
    order = numpy.argsort(keys, kind="stable")
    ordered = keys[order]
    is_first = numpy.concatenate(([True], ordered[1:] != ordered[:-1]))
    firsts = numpy.maximum.accumulate(numpy.where(is_first, numpy.arange(len(order)), 0))
    for at in numpy.flatnonzero(~is_first):
        later = int(order[at])
        yield int(order[firsts[at]]), later
        if firsts[at] != at - 1:
            yield int(order[at - 1]), later

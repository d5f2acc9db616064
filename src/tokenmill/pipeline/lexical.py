"""Vectors without a model: which words and pairs of words a text has. It knows wording, not meaning.

For tests, for trying a recipe, and for machines without an embedding model. Thresholds found with a model of meanings
mean something else here.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

#: What a recipe names in place of a node.
LEXICAL = "words"
DIMENSIONS = 1024
_WORD = re.compile(r"\w+")


def lexical(texts: Sequence[str]) -> np.ndarray:
    """Counts of words and of pairs that follow each other, hashed: [texts, DIMENSIONS]."""
    import numpy as np

    vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in enumerate(texts):
        words = _WORD.findall(text.casefold())
        for part in (*words, *map(" ".join, itertools.pairwise(words))):
            digest = hashlib.blake2b(part.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            vectors[row, int.from_bytes(digest, "big") % DIMENSIONS] += 1
    return vectors

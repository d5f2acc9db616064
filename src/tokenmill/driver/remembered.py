"""Vectors that were asked for lately: a reference is compared with each item of its row, in every round and role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenmill.validate import Embed

if TYPE_CHECKING:
    import numpy as np

#: Texts whose vectors are kept, and the letters of the longest of them: some megabytes in all.
KEPT, LETTERS = 2048, 2000


class Remembered:
    """Asks for what it doesn't know, each text once, and forgets what was wanted longest ago."""

    def __init__(self, ask: Embed, most: int = KEPT) -> None:
        self._ask = ask
        self._most = most
        self._kept: dict[str, np.ndarray] = {}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts, one a row."""
        import numpy as np

        found = {text: self._kept.pop(text, None) for text in texts}
        if missing := [text for text, vector in found.items() if vector is None]:
            # Copies, as a row of a batch would keep the whole batch.
            found.update(zip(missing, map(np.copy, self._ask(missing)), strict=True))
        self._kept.update(
            (text, vector) for text, vector in found.items() if vector is not None and len(text) <= LETTERS
        )
        while len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
        return np.array([found[text] for text in texts])

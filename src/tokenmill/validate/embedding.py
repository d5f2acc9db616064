"""How near the meaning of a text is to its reference, by the vectors of a sentence-embedding model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from tokenmill.errors import UsageError
from tokenmill.validate.kind import Kind, Options
from tokenmill.validate.score import Embed, Item, Score

if TYPE_CHECKING:
    import numpy as np

Cosine = Annotated[float, Meta(ge=-1.0, le=1.0)]


class EmbeddingOptions(Options, frozen=True, kw_only=True):
    """A cosine passes from `at_least` to `at_most`; without them it is measured, and passes."""

    at_least: Cosine | None = None
    at_most: Cosine | None = None

    def faults(self) -> Iterable[str]:
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            yield f"at_least {self.at_least} is above at_most {self.at_most}, so nothing could pass; swap them"


class Embedding:
    """Measures the cosine of the vectors of text and reference, -1 to 1; a text is embedded once a batch."""

    needs = ()

    def __init__(self, name: str, options: EmbeddingOptions, embed: Embed | None) -> None:
        if find_spec("numpy") is None:
            raise UsageError('meanings need the library numpy; install it with: pip install "tokenmill[validate]"')
        self.name = name
        self._options = options
        self._embed = embed

    def check(self, items: Sequence[Item]) -> list[Score]:
        if self._embed is None:
            raise UsageError(f"validator {self.name!r} compares meanings, and no embedding model is named; name one")
        texts = list(dict.fromkeys(text for item in items for text in (item.text, item.reference)))
        if not texts:
            return []
        place = {text: number for number, text in enumerate(texts)}
        vectors = _units(self._embed(texts), len(texts))
        return [self._score(vectors[place[item.text]], vectors[place[item.reference]]) for item in items]

    def _score(self, this: np.ndarray, that: np.ndarray) -> Score:
        cosine = float(this @ that)
        if cosine != cosine:
            text = "this text" if (this != this).any() else "the reference"
            reason = f"The model gives no vector for {text}, which may be too long or without words, so its meaning "
            reason += "can't be compared."
            return Score(validator=self.name, value=None, passed=False, reason=reason)
        # Four places: the last bits of a vector depend on what else was in its batch, and a score mustn't.
        value = round(max(-1.0, min(1.0, cosine)), 4)
        least, most = self._options.at_least, self._options.at_most
        if least is not None and value < least:
            reason = f"The meaning is too far from the reference: {value:g}, and it must be at least {least:g}."
        elif most is not None and value > most:
            reason = f"The meaning is too near the reference: {value:g}, and it must be at most {most:g}."
        else:
            reason = ""
        return Score(validator=self.name, value=value, passed=not reason, reason=reason)


def _units(vectors: np.ndarray, count: int) -> np.ndarray:
    """The vectors with length 1 as float64; one of no length, or with a number that is none, becomes NaN."""
    import numpy as np

    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2 or len(rows) != count:
        raise ValueError(f"{count} texts were embedded, and vectors of shape {rows.shape} came back")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    usable = np.isfinite(lengths) & (lengths > 0)
    return np.where(usable, rows / np.where(usable, lengths, 1), np.nan)


KIND = Kind(EmbeddingOptions, Embedding, scale=(-1.0, 1.0), embeds=True, compares=True)

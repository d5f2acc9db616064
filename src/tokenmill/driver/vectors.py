"""The embedding model of a run with a recipe: opened when the first vectors are wanted, asked from the judging thread.

The model itself lives on the run's loop. A text that it doesn't take has a vector of NaN, and costs the row it is of.
Whatever else it can't do is no row's fault: it stops the run, which can be resumed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tokenmill.driver.options import Options, Settings, parse_node, settled_node
from tokenmill.driver.remembered import Remembered
from tokenmill.engine.embedding import Embedder, EmbedderOptions, make_embedder
from tokenmill.errors import EngineError, NodeGone, TokenmillError, UsageError
from tokenmill.pipeline.lexical import LEXICAL, lexical
from tokenmill.record.folder import Manifest

if TYPE_CHECKING:
    import numpy as np

_Result = TypeVar("_Result")

#: What stands in the manifest for vectors that need no model.
LEXICAL_DIGEST = "words-1"
#: Failures that may be one text's own, and a text that any model takes.
OF_A_TEXT, PROBE = ("too_long", "refused", "filtered"), "Hello"


class Vectors:
    """Turns texts into vectors, by the model that a recipe names; `embed` is for one thread beside the loop."""

    def __init__(self, named: str, settings: Settings) -> None:
        self._named = named
        self._embedder: Embedder | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_open = False
        self._remembered = Remembered(self._asked)
        if named != LEXICAL:
            chosen = EmbedderOptions(device=settings.device, threads=settings.threads)
            try:
                self._embedder = make_embedder(parse_node(settled_node(named), 0), chosen)
            except TokenmillError as error:
                raise UsageError(f"embedding {named!r}: {error}") from error

    def digest(self) -> str:
        """What identifies the model; raises `UsageError` if it can't be used."""
        if self._embedder is None:
            return LEXICAL_DIGEST
        try:
            return self._embedder.survey().digest
        except (EngineError, TokenmillError) as error:
            raise UsageError(f"embedding {self._named!r}: {error}") from error

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` is the run's, on which the model is asked."""
        self._loop = loop

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts, one a row, NaN for one that the model doesn't take.

        Raises `NodeGone` if the model can't be used any more.
        """
        return self._remembered.embed(texts)

    def _asked(self, texts: Sequence[str]) -> np.ndarray:
        embedder = self._embedder
        if embedder is None:
            return lexical(texts)
        try:
            if not self._is_open:
                self._wait(embedder.open())
                self._is_open = True
            return self._taken(embedder, texts)
        except EngineError as error:
            raise NodeGone(f"embedding {self._named!r}: {error.kind}: {error.message}") from error
        except NodeGone:
            raise
        except TokenmillError as error:  # what it can't open now it may open when the run goes on
            raise NodeGone(f"embedding {self._named!r}: {error}") from error
        except (concurrent.futures.CancelledError, RuntimeError) as error:
            raise NodeGone(f"embedding {self._named!r}: the run ended while it was asked") from error

    def _taken(self, embedder: Embedder, texts: Sequence[str]) -> np.ndarray:
        """The vectors of texts; those that a failure may be about are asked for apart, half by half."""
        import numpy as np

        try:
            return self._wait(embedder.embed(texts))
        except EngineError as error:
            if error.kind not in OF_A_TEXT:
                raise
        if len(texts) > 1:
            half = len(texts) // 2
            return np.concatenate([self._taken(embedder, part) for part in (texts[:half], texts[half:])])
        # Raises for a model that takes no text at all any more.
        dimensions = self._wait(embedder.embed([PROBE])).shape[1]
        return np.full((1, dimensions), np.nan, np.float32)

    async def close(self) -> None:
        """Ends the model; called on the loop when nothing asks it any more."""
        if self._embedder is not None and self._is_open:
            await self._embedder.close()

    def _wait(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def vectors_of(options: Options, settings: Settings) -> Vectors | None:
    """The embedding model of a run; None if its recipe names none."""
    recipe = options.pipeline
    return None if recipe is None or recipe.embedding is None else Vectors(recipe.embedding, settings)


def check_embedding(manifest: Manifest, options: Options, settings: Settings) -> None:
    """Raises `UsageError` if the run began with another embedding model."""
    vectors = vectors_of(options, settings)
    if vectors is not None and (digest := vectors.digest()) != manifest.embedding_digest:
        raise UsageError(
            f"run {manifest.run_id}: the embedding model changed ({manifest.embedding_digest!r} -> {digest!r}); "
            "put the old one back or start a new run"
        )

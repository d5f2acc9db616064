"""Texts become vectors: the seam between whatever compares meanings and the model that tells them.

An embedder is asked for many texts at once and gives one row for each, in their order. It has no driver above it: what
is worth asking a server again is asked again by the embedder itself, and what is left is an `EngineError`, whose kinds
mean what they mean of an engine. Embedders are found by the kind of their node and imported only when made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from msgspec import Struct

from tokenmill.cluster import Node
from tokenmill.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    #: Vectors `[texts, dimensions]`.
    Vectors: TypeAlias = NDArray[np.float32]

#: By kind of node: the module of its embedder, and the class there.
EMBEDDERS = {
    "local": ("tokenmill.engine.local.embedding.engine", "LocalEmbedder"),
    "http": ("tokenmill.engine.http.embeddings", "ServerEmbedder"),
    "https": ("tokenmill.engine.http.embeddings", "ServerEmbedder"),
    "ollama": ("tokenmill.engine.http.embeddings", "ServerEmbedder"),
    "openai": ("tokenmill.engine.http.embeddings", "ServerEmbedder"),
}


class EmbedderFacts(Struct, frozen=True, kw_only=True):
    """What an embedder is, once known.

    `digest` identifies weights, tokenizer and the way to one vector, as far as the model tells. `dimensions` is None
    where only an answer shows it, which is there once it is open. `longest`: tokens of a text, special ones included,
    beyond which it isn't read whole; None if the model doesn't say.
    """

    model: str
    digest: str
    dimensions: int | None = None
    longest: int | None = None


class EmbedderOptions(Struct, frozen=True, kw_only=True):
    """What the user may decide about an embedder; None leaves it to the embedder.

    `model`: the name by which a server that holds several is asked for one. `slots`: requests in flight at a server,
    `batch`: texts in each. `device` and `threads`: what a local model computes with.
    """

    model: str | None = None
    slots: int | None = None
    batch: int | None = None
    device: str | None = None
    threads: int | None = None


class Embedder(Protocol):
    """Turns texts into vectors. `survey` works before `open` and loads no weights.

    Calls of `embed` may overlap. It raises `EngineError`, and then for all of its texts, once nothing more is worth
    trying: a process of its own that ends is replaced, a few times. After a `crash`, `open` makes it work again.
    """

    def survey(self) -> EmbedderFacts: ...

    async def open(self) -> EmbedderFacts: ...

    async def embed(self, texts: Sequence[str]) -> Vectors: ...

    async def close(self) -> None: ...


def make_embedder(node: Node, options: EmbedderOptions | None = None) -> Embedder:
    """The embedder of a node, not opened yet.

    Raises:
        UsageError: nodes of this kind make no vectors, or a library that they need isn't installed.
    """
    if node.engine not in EMBEDDERS:
        raise UsageError(
            f"node {node.name!r}: engine {node.engine!r} makes no vectors; those that do: {', '.join(EMBEDDERS)}"
        )
    module, name = EMBEDDERS[node.engine]
    try:
        made = getattr(import_module(module), name)(node, options or EmbedderOptions())
    except ModuleNotFoundError as error:
        extra = "local" if node.engine == "local" else "http"
        raise UsageError(
            f"node {node.name!r}: {error.name} isn't installed; pip install 'tokenmill[{extra}]'"
        ) from error
    return cast(Embedder, made)


def distinct(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Each text once, and for each of `texts` where it is among those: what is compared with many is asked for once."""
    places: dict[str, int] = {}
    where = [places.setdefault(text, len(places)) for text in texts]
    return list(places), where


def parts_of(texts: Sequence[str], most: int, letters: int) -> Iterator[list[str]]:
    """The texts in their order, in parts of at most so many texts and letters; a longer text alone."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and (len(part) == most or size + len(text) > letters):
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    if part:
        yield part

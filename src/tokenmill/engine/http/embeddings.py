"""The embedder of a node behind HTTP: OpenAI's `/embeddings`, or Ollama's `/api/embed`.

Texts go in batches, several of them at once, and come back in their order. No driver stands above an embedder, and a
batch may be asked again without harm: what may pass is asked again here, after a rest, as often as `Patience` says.
What arrives is believed only if it is whole: one vector for each text, all of the length that the first one had.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from tokenmill.cluster import EngineOptions, Node
from tokenmill.engine.embedding import EmbedderFacts, EmbedderOptions, distinct, parts_of
from tokenmill.engine.http.apart import run_apart
from tokenmill.engine.http.classify import fault_of_object
from tokenmill.engine.http.client import Client
from tokenmill.engine.http.clocks import Clocks, Deadline, clocks_from
from tokenmill.engine.http.dialect import Model
from tokenmill.engine.http.engine import SLOTS
from tokenmill.engine.http.ollama import Ollama
from tokenmill.engine.http.site import SURVEY_CONNECT, Site, refused
from tokenmill.errors import EngineError, UsageError

if TYPE_CHECKING:
    from tokenmill.engine.embedding import Vectors

#: Texts and letters of one request. Some servers take no more than 32 texts by default.
BATCH, LETTERS = 32, 1 << 20
#: Most numbers of a vector; no model makes more.
MOST_DIMENSIONS = 1 << 16
#: What may be over when it is asked again.
PASSING = ("transient", "timeout", "unreachable", "busy")
PROBE = "Hello"


class Patience(Struct, frozen=True, kw_only=True):
    """`attempts` at each batch, with a rest of `first` seconds that doubles up to `most`, or as long as a node asks."""

    attempts: int = 5
    first: float = 0.5
    most: float = 30.0


class _Datum(Struct):
    index: int
    embedding: list[float]


class _OpenAIBody(Struct):
    data: list[_Datum]


class _OllamaBody(Struct):
    embeddings: list[list[float]]


_Body = TypeVar("_Body", _OpenAIBody, _OllamaBody)


class ServerEmbedder:
    """The embedder of one node, used in the event loop that opened it."""

    def __init__(
        self,
        node: Node,
        options: EmbedderOptions,
        *,
        clocks: Clocks | None = None,
        environment: Mapping[str, str] = os.environ,
        patience: Patience | None = None,
    ) -> None:
        self._slots, self._batch = options.slots or SLOTS, options.batch or BATCH
        for name, value in (("slots", options.slots), ("batch", options.batch)):
            if value is not None and value < 1:
                raise UsageError(f"node {node.name!r}: {name} is {value}; give at least 1")
        self._clocks = clocks_from(environment) if clocks is None else clocks
        self._patience = patience or Patience()
        self._site = Site(node, EngineOptions(model=options.model), environment)
        self._client: Client | None = None
        self._model: Model | None = None
        self._dimensions: int | None = None
        self._turns = asyncio.Semaphore(self._slots)

    def survey(self) -> EmbedderFacts:
        clocks = replace(self._clocks, connect=min(self._clocks.connect, SURVEY_CONNECT))

        async def ask() -> Model:
            return await self._site.find(clocks)

        return self._facts(run_apart(ask))

    async def open(self) -> EmbedderFacts:
        """Finds the model and asks it for one vector, which has it loaded and shows its length.

        Raises:
            NodeUnreachable: the node doesn't answer now.
            UsageError: it has no such model, or that makes no vectors.
        """
        if self._client is None:
            self._model = await self._site.find(self._clocks)
            self._client = self._site.client(self._clocks)
            self._turns = asyncio.Semaphore(self._slots)
            try:
                self._dimensions = (await self._ask([PROBE])).shape[1]
            except BaseException as error:
                await self.close()
                if isinstance(error, EngineError):
                    raise refused(error) from None
                raise
        assert self._model is not None
        return self._facts(self._model)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        once, where = distinct(texts)
        asked = [asyncio.ensure_future(self._patiently(part)) for part in parts_of(once, self._batch, LETTERS)]
        try:
            parts = await asyncio.gather(*asked)
        finally:
            for future in asked:
                future.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        vectors = np.concatenate(parts) if parts else np.empty((0, self._dimensions or 0), np.float32)
        return vectors[where]

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _facts(self, model: Model) -> EmbedderFacts:
        return EmbedderFacts(model=model.name, digest=model.digest, dimensions=self._dimensions, longest=model.context)

    # -- vectors -------------------------------------------------------------------------------------------------

    async def _patiently(self, texts: list[str]) -> Vectors:
        """The vectors of one batch, asked again while what failed may pass."""
        attempt, rest = 1, self._patience.first
        while True:
            try:
                async with self._turns:
                    return await self._ask(texts)
            except EngineError as error:
                if error.kind not in PASSING or attempt == self._patience.attempts:
                    raise
                wait = rest if error.retry_after is None else error.retry_after
            await asyncio.sleep(wait)
            attempt, rest = attempt + 1, min(2 * rest, self._patience.most)

    async def _ask(self, texts: list[str]) -> Vectors:
        """The vectors of one batch, checked."""
        client, model = self._client, self._model
        if client is None or model is None:
            raise EngineError("crash", f"{self._site.place}: it isn't open")
        is_native = isinstance(self._site.dialect, Ollama)
        asked: dict[str, object] = {"model": model.name, "input": texts}
        asked |= {"truncate": False} if is_native else {"encoding_format": "float"}
        try:
            body = msgspec.json.encode(asked)
        except UnicodeEncodeError as error:
            raise client.fault(EngineError("refused", f"a text isn't Unicode ({error.reason}); mend it")) from None
        deadline = Deadline(self._clocks, asyncio.get_running_loop().time())
        exchange = await client.ask("/api/embed" if is_native else "/embeddings", body, deadline)
        try:
            parts = []
            while data := await exchange.read():
                parts.append(data)
        finally:
            exchange.close()
        try:
            rows = (read_ollama if is_native else read_openai)(b"".join(parts), len(texts))
            vectors = checked(rows, len(texts), self._dimensions)
        except EngineError as error:
            fault = client.fault(error)
        else:
            return vectors
        raise fault


def read_openai(content: bytes, count: int) -> list[list[float]]:
    """The vectors of an answer of `/embeddings`, by their index; raises `EngineError`."""
    found = _decoded(content, _OpenAIBody).data
    if sorted(datum.index for datum in found) != list(range(count)):
        raise EngineError("transient", f"the indexes of {len(found)} vectors aren't those of {count} texts")
    return [datum.embedding for datum in sorted(found, key=lambda datum: datum.index)]


def read_ollama(content: bytes, _count: int) -> list[list[float]]:
    """The vectors of an answer of `/api/embed`, which are in the order of the texts; raises `EngineError`."""
    return _decoded(content, _OllamaBody).embeddings


def checked(rows: list[list[float]], count: int, dimensions: int | None) -> Vectors:
    """The vectors of `count` texts, if they can be these; `dimensions` is the length that vectors had before."""
    if len(rows) != count:
        raise EngineError("transient", f"the node sent {len(rows)} vectors for {count} texts")
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1 or not 0 < lengths[0] <= MOST_DIMENSIONS:
        told = " and ".join(str(length) for length in lengths[:3])
        raise EngineError("transient", f"the node sent vectors of {told} numbers in one answer")
    if dimensions is not None and lengths[0] != dimensions:
        raise EngineError(
            "misconfigured",
            f"its vectors have {lengths[0]} numbers now and had {dimensions}: it has another model; "
            "put the old one back",
        )
    with np.errstate(over="ignore"):
        vectors = np.array(rows, np.float32)
    if not np.isfinite(vectors).all():
        raise EngineError("transient", "the node sent a number that no vector has")
    return vectors


def _decoded(content: bytes, kind: type[_Body]) -> _Body:
    """The body of an answer; an error object in its place is the failure that it means."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = str(error)
    try:
        said = msgspec.json.decode(content, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = {}
    if said.get("error"):
        raise fault_of_object(said["error"])
    raise EngineError("transient", f"the answer holds no vectors as its API has them ({why})")

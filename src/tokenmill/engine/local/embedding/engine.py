"""Embedder `local`: the folder of a sentence-embedding model, computed by a worker process of ours.

The worker is the one of engine `local`, started, watched and ended in the same way, and told to load an encoder. This
side never loads torch. Texts that occur several times in one call are computed once.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from tokenmill.cluster import Node
from tokenmill.engine.embedding import EmbedderFacts, EmbedderOptions, distinct, parts_of
from tokenmill.engine.local.embedding.folder import LEFT_OUT, EncoderFolder
from tokenmill.engine.local.embedding.weights import expected_tensors
from tokenmill.engine.local.folder import resolve
from tokenmill.engine.local.keeper import Keeper
from tokenmill.engine.local.machine import usable_cores, usable_memory
from tokenmill.engine.local.settings import DEVICES, TINY
from tokenmill.engine.local.supervise import Hire, Worker, hire_child
from tokenmill.engine.local.wire import Cancel, Embed, Embedded, FromWorker, LoadEmbedder, Refused, WireError
from tokenmill.errors import EngineError, TokenmillError, UsageError

if TYPE_CHECKING:
    from tokenmill.engine.embedding import Vectors

#: Texts and letters of one message to the worker. It computes what waits together, so small ones cost little.
TEXTS, LETTERS = 512, 1 << 20
#: Workers that one call may cost: a text that ends each of them must not be asked for ever.
CRASHES = 3


class Plan(Struct, frozen=True):
    """An embedder before it is opened."""

    load: LoadEmbedder
    facts: EmbedderFacts


class LocalEmbedder:
    """The embedder of one folder. A worker that ends by itself is replaced, and asked again for what was in flight."""

    def __init__(self, node: Node, options: EmbedderOptions, hire: Hire = hire_child) -> None:
        self._node = node
        self._options = options
        self._keeper = Keeper(node.name, hire, self._receive, self._dropped)
        self._plan: Plan | None = None
        self._keys = itertools.count()
        self._pending: dict[int, asyncio.Future[Vectors]] = {}

    def survey(self) -> EmbedderFacts:
        return self._planned().facts

    async def open(self) -> EmbedderFacts:
        """Starts a worker unless one is running; raises `TokenmillError` if it can't load."""
        async with self._keeper.opening:
            return await self._open()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        once, where = distinct(texts)
        parts = list(parts_of(once, TEXTS, LETTERS))
        found: dict[int, Vectors] = {}
        crashes = 0
        while len(found) < len(parts):
            try:
                if self._keeper.worker is None:
                    await self._open_again()
                await self._ask({place: part for place, part in enumerate(parts) if place not in found}, found)
            except EngineError as error:
                crashes += 1
                if error.kind != "crash" or crashes == CRASHES or not self._keeper.is_open:
                    raise
        empty = np.empty((0, self._dimensions), np.float32)
        return np.concatenate([empty, *(found[place] for place in range(len(parts)))])[where]

    async def close(self) -> None:
        await self._keeper.close()

    @property
    def _dimensions(self) -> int:
        found = self._planned().facts.dimensions
        assert found is not None, "a folder states its dimensions"
        return found

    def _planned(self) -> Plan:
        if self._plan is None:
            self._plan = make_plan(self._node, self._options)
        return self._plan

    async def _open(self) -> EmbedderFacts:
        plan = await asyncio.to_thread(self._planned)
        if self._keeper.worker is None:
            async with self._keeper.hired(plan.load.threads) as worker:
                await self._keeper.load(worker, plan.load)
        return plan.facts

    async def _open_again(self) -> None:
        """A worker in place of a lost one; none where none was wanted yet, or any more."""
        async with self._keeper.opening:
            if not self._keeper.is_open:
                raise self._keeper.gone()
            try:
                await self._open()
            except TokenmillError as error:
                raise EngineError("crash", f"{self._keeper.gone().message}; then {error}") from error

    async def _ask(self, parts: dict[int, list[str]], found: dict[int, Vectors]) -> None:
        """Puts the vectors of parts where their places are in `found`; after a crash, those that came before it."""
        worker = self._keeper.worker
        assert worker is not None, "nothing was waited for since it was there"
        asked: dict[int, tuple[int, asyncio.Future[Vectors]]] = {}
        try:
            for place, part in parts.items():
                key = next(self._keys)
                asked[key] = place, self._send(worker, key, part)
            await asyncio.gather(*(future for _, future in asked.values()))
        finally:
            for key, (place, future) in asked.items():
                if self._pending.pop(key, None) is not None:
                    worker.send(Cancel(key))
                elif not future.cancelled() and future.exception() is None:
                    found[place] = future.result()

    def _send(self, worker: Worker, key: int, texts: list[str]) -> asyncio.Future[Vectors]:
        try:
            worker.send(Embed(key, tuple(texts)))
        except WireError as error:
            raise EngineError("refused", f"node {self._node.name!r}: {error}") from error
        future: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
        self._pending[key] = future
        return future

    def _receive(self, message: FromWorker) -> None:
        match message:
            case Embedded(key=key, vectors=vectors):
                found = np.frombuffer(vectors, "<f4").astype(np.float32, copy=False).reshape(-1, self._dimensions)
                if (future := self._pending.pop(key, None)) is not None and not future.done():
                    future.set_result(found)
            case Refused(key=key, kind=kind, message=text):
                if (future := self._pending.pop(key, None)) is not None and not future.done():
                    future.set_exception(EngineError(kind, f"node {self._node.name!r}: {text}"))

    def _dropped(self) -> None:
        """All that was asked of the worker fails with the cause."""
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(self._keeper.gone())


def make_plan(node: Node, options: EmbedderOptions) -> Plan:
    """Reads the model's folder and settles everything left open; raises `TokenmillError` for what can't work."""
    place = f"node {node.name!r}"
    device = options.device or "cpu"
    if device not in DEVICES:
        raise UsageError(f"{place}: device {device!r} isn't known to engine local; known: {', '.join(DEVICES)}")
    if options.threads is not None and options.threads < 1:
        raise UsageError(f"{place}: threads is {options.threads}; give at least 1")
    path = resolve(node.target, LEFT_OUT)
    folder = EncoderFolder(path)
    numbers = sum(math.prod(shape) for shape in expected_tensors(folder.config).values())
    if device == "cpu" and 4 * numbers >= (usable := usable_memory()):
        raise UsageError(
            f"{place}: the weights need {4 * numbers:,} bytes and {usable:,} are free; "
            "free memory, or take a smaller model"
        )
    load = LoadEmbedder(
        folder=str(path.absolute()),
        digest=folder.digest,
        device=device,
        threads=options.threads or (1 if numbers <= TINY else usable_cores()),
    )
    facts = EmbedderFacts(
        model=path.resolve().name if Path(node.target).expanduser().exists() else node.target,
        digest=f"{folder.digest}-fp32",
        dimensions=folder.config.hidden,
        longest=folder.longest,
    )
    return Plan(load, facts)

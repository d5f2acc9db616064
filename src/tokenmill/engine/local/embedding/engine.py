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
from tokenmill.engine.local.engine import EngineNotOpened
from tokenmill.engine.local.folder import resolve
from tokenmill.engine.local.machine import usable_cores, usable_memory
from tokenmill.engine.local.settings import DEVICES, TINY
from tokenmill.engine.local.supervise import Hire, Worker, hire_child
from tokenmill.engine.local.wire import (
    Cancel,
    Embed,
    Embedded,
    FromWorker,
    Loaded,
    LoadEmbedder,
    LoadFailed,
    Refused,
    WireError,
)
from tokenmill.errors import EngineError, UsageError

if TYPE_CHECKING:
    from tokenmill.engine.embedding import Vectors

#: Texts and letters of one message to the worker. It computes what waits together, so small ones cost little.
TEXTS, LETTERS = 512, 1 << 20


class Plan(Struct, frozen=True):
    """An embedder before it is opened."""

    load: LoadEmbedder
    facts: EmbedderFacts


class LocalEmbedder:
    """The embedder of one folder; `open` after a crash gets a new worker with the same facts."""

    def __init__(self, node: Node, options: EmbedderOptions, hire: Hire = hire_child) -> None:
        self._node = node
        self._options = options
        self._hire = hire
        self._plan: Plan | None = None
        self._worker: Worker | None = None
        self._loaded: asyncio.Future[str] | None = None
        self._opening = asyncio.Lock()
        self._cause = "it isn't open"
        self._keys = itertools.count()
        self._pending: dict[int, asyncio.Future[Vectors]] = {}

    def survey(self) -> EmbedderFacts:
        return self._planned().facts

    async def open(self) -> EmbedderFacts:
        """Starts a worker unless one is running; raises `TokenmillError` if it can't load."""
        async with self._opening:
            plan = await asyncio.to_thread(self._planned)
            if self._worker is None:
                await self._start(plan)
            return plan.facts

    async def embed(self, texts: Sequence[str]) -> Vectors:
        once, where = distinct(texts)
        asked: dict[int, asyncio.Future[Vectors]] = {}
        worker = self._worker
        try:
            for part in parts_of(once, TEXTS, LETTERS):
                key = next(self._keys)
                asked[key] = self._send(worker, key, part)
            parts = [await future for future in asked.values()]
        finally:
            for key, future in asked.items():
                if self._pending.pop(key, None) is not None and worker is not None:
                    worker.send(Cancel(key))
                elif future.done() and not future.cancelled():
                    future.exception()  # one failure is told, and the others are the same
        vectors = np.concatenate(parts) if parts else np.empty((0, self._dimensions), np.float32)
        return vectors[where]

    async def close(self) -> None:
        async with self._opening:
            worker, self._worker = self._worker, None
            if worker is not None:
                self._drop("it was closed")
                await worker.stop()

    @property
    def _dimensions(self) -> int:
        found = self._planned().facts.dimensions
        assert found is not None, "a folder states its dimensions"
        return found

    def _planned(self) -> Plan:
        if self._plan is None:
            self._plan = make_plan(self._node, self._options)
        return self._plan

    def _send(self, worker: Worker | None, key: int, texts: list[str]) -> asyncio.Future[Vectors]:
        if worker is None or worker is not self._worker:
            raise self._gone()
        try:
            worker.send(Embed(key, tuple(texts)))
        except WireError as error:
            raise EngineError("refused", f"node {self._node.name!r}: {error}") from error
        future: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
        self._pending[key] = future
        return future

    async def _start(self, plan: Plan) -> None:
        self._loaded = asyncio.get_running_loop().create_future()
        place = f"node {self._node.name!r}"
        try:
            worker = await self._hire(self._receive, plan.load.threads)
        except OSError as error:
            raise EngineNotOpened(f"{place}: no worker process can be started ({error})") from error
        try:
            worker.send(plan.load)
            await asyncio.wait({self._loaded, worker.ended}, return_when=asyncio.FIRST_COMPLETED)
            if not self._loaded.done():
                raise EngineNotOpened(f"{place}: the worker ended while loading: {await worker.ended}")
            if fault := self._loaded.result():
                raise EngineNotOpened(f"{place}: {fault}")
        except BaseException:
            await worker.stop()
            raise
        self._worker = worker
        worker.ended.add_done_callback(lambda _: self._lost(worker))

    def _receive(self, message: FromWorker) -> None:
        match message:
            case Embedded(key=key, vectors=vectors):
                found = np.frombuffer(vectors, "<f4").astype(np.float32, copy=False).reshape(-1, self._dimensions)
                if (future := self._pending.pop(key, None)) is not None and not future.done():
                    future.set_result(found)
            case Refused(key=key, kind=kind, message=text):
                if (future := self._pending.pop(key, None)) is not None and not future.done():
                    future.set_exception(EngineError(kind, f"node {self._node.name!r}: {text}"))
            case Loaded():
                self._settle_load("")
            case LoadFailed(message=text):
                self._settle_load(text)

    def _settle_load(self, fault: str) -> None:
        """A second answer to a `LoadEmbedder` means nothing."""
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_result(fault)

    def _lost(self, worker: Worker) -> None:
        """The worker ended by itself; all that was asked of it fails with the cause."""
        if self._worker is worker and not worker.ended.cancelled():
            self._worker = None
            self._drop(worker.ended.result())

    def _drop(self, cause: str) -> None:
        self._cause = cause
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(self._gone())

    def _gone(self) -> EngineError:
        return EngineError("crash", f"node {self._node.name!r}: no worker, {self._cause}")


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

"""Keeps one worker at a time: has it come, has it load, says why there is none, and who was lost with it.

What is said to a worker besides, and what is heard of it, is the business of the engine above, which decides when to
ask for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

from tokenmill.engine.local.supervise import Hire, Worker, WorkerProcess
from tokenmill.engine.local.wire import FromWorker, Load, Loaded, LoadEmbedder, LoadFailed
from tokenmill.errors import EngineError, NodeUnreachable, TokenmillError

#: Workers that are remembered until somebody asks for them.
FRESH = 64
#: Workers in a row that may end while they load before no other is tried.
LOADS = 3


class EngineNotOpened(TokenmillError):
    """The worker couldn't be started or couldn't load."""


class WorkerLost(NodeUnreachable):
    """A worker that wasn't started here ended while it loaded; another one may come."""


class Keeper:
    """The worker of one node. Whoever starts one, or looks whether to, holds `opening`.

    `hear` gets what a worker says but for its word on loading; `dropped` is called when a worker is gone and with it
    all that was asked of it.
    """

    def __init__(self, node: str, hire: Hire, hear: Callable[[FromWorker], None], dropped: Callable[[], None]) -> None:
        self.opening = asyncio.Lock()
        self.worker: Worker | None = None
        self.is_open = False  # a worker was had, and nobody closed
        self._place = f"node {node!r}"
        self._hire = hire
        self._hear = hear
        self._dropped = dropped
        self._loaded: asyncio.Future[str] | None = None
        self._vain = 0
        self._cause = "it isn't open"
        self._fresh: deque[WorkerProcess] = deque(maxlen=FRESH)

    @contextlib.asynccontextmanager
    async def hired(self, threads: int) -> AsyncIterator[Worker]:
        """A new worker, to be told what to load; it is the node's once that went well, else it is ended."""
        self._loaded = asyncio.get_running_loop().create_future()
        try:
            worker = await self._hire(self._receive, threads)
        except OSError as error:
            raise EngineNotOpened(f"{self._place}: no worker process can be started ({error})") from error
        if isinstance(worker, WorkerProcess):
            self._fresh.append(worker)
        try:
            yield worker
        except BaseException:
            await worker.stop()
            raise
        self.worker, self.is_open, self._vain = worker, True, 0
        worker.ended.add_done_callback(lambda _: self._lost(worker))

    async def load(self, worker: Worker, what: Load | LoadEmbedder) -> None:
        """Returns when the worker has loaded; raises `TokenmillError` if it can't, or ended."""
        assert self._loaded is not None
        worker.send(what)
        await asyncio.wait({self._loaded, worker.ended}, return_when=asyncio.FIRST_COMPLETED)
        if self._loaded.done():
            if fault := self._loaded.result():
                raise EngineNotOpened(f"{self._place}: {fault}")
            return
        self._vain += 1
        told = f"{self._place}: the worker ended while loading: {await worker.ended}"
        if worker.machine is not None and self._vain < LOADS:
            raise WorkerLost(told)
        raise EngineNotOpened(told)

    async def close(self) -> None:
        async with self.opening:
            worker, self.worker = self.worker, None
            if self.is_open:
                self.is_open = False
                self._drop("it was closed")
            if worker is not None:
                await worker.stop()

    def gone(self) -> EngineError:
        """Why there is no worker."""
        return EngineError("crash", f"{self._place}: no worker, {self._cause}")

    def fresh_processes(self) -> Iterator[WorkerProcess]:
        """Those started since this was asked last; called from any thread."""
        with contextlib.suppress(IndexError):  # the last one, which another thread may add to at any moment
            while True:
                yield self._fresh.popleft()

    def _receive(self, message: FromWorker) -> None:
        match message:
            case Loaded():
                self._settle_load("")
            case LoadFailed(message=text):
                self._settle_load(text)
            case _:
                self._hear(message)

    def _settle_load(self, fault: str) -> None:
        """A second answer to a `Load` means nothing."""
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_result(fault)

    def _lost(self, worker: Worker) -> None:
        """The worker ended by itself."""
        if self.worker is worker and not worker.ended.cancelled():
            self.worker = None
            self._drop(worker.ended.result())

    def _drop(self, cause: str) -> None:
        self._cause = cause
        self._dropped()

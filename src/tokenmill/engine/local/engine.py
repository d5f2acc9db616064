"""Engine `local`: a model folder, answered by a worker process of ours.

This side never loads torch. It decides everything once, from the folder and the machine, so that a worker started
again after a crash is the same as the one before. All text work of a step (tokens, stop strings) is done by the
worker; here one message per step is dealt out to the requests it belongs to.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Iterator

from tokenmill.cluster import EngineFacts, EngineOptions, Node
from tokenmill.engine.local.machine import Machine
from tokenmill.engine.local.settings import Plan, make_plan
from tokenmill.engine.local.supervise import Hire, Worker, WorkerProcess, hire_child
from tokenmill.engine.local.wire import (
    Cancel,
    FromWorker,
    Loaded,
    LoadFailed,
    Piece,
    Refused,
    Stepped,
    Submit,
    WireError,
)
from tokenmill.errors import EngineError, NodeUnreachable, TokenmillError
from tokenmill.request import Chunk, Completion, Request, Sampling, Usage

#: Workers that are remembered until somebody asks for them.
FRESH = 64
#: Workers in a row that may end while they load before no other is tried.
LOADS = 3


class EngineNotOpened(TokenmillError):
    """The worker couldn't be started or couldn't load."""


class WorkerLost(NodeUnreachable):
    """A worker that wasn't started here ended while it loaded; another one may come."""


class LocalEngine:
    """The engine of one node; `open` after a crash gets a new worker, on the same machine with the same facts.

    `hire` is how a worker is had: by default it is a child process. Where workers come from other machines `elsewhere`
    stands for those until one has told of its own.
    """

    def __init__(
        self, node: Node, options: EngineOptions, hire: Hire = hire_child, elsewhere: Machine | None = None
    ) -> None:
        self._node = node
        self._options = options
        self._hire = hire
        self._elsewhere = elsewhere
        self._machine: Machine | None = None
        self._vain = 0
        self._plan: Plan | None = None
        self._worker: Worker | None = None
        self._loaded: asyncio.Future[str] | None = None
        self._opening = asyncio.Lock()
        self._cause = "it isn't open"
        self._keys = itertools.count()
        self._inboxes: dict[int, asyncio.Queue[tuple[int, Piece] | EngineError]] = {}
        self._fresh: deque[WorkerProcess] = deque(maxlen=FRESH)

    def survey(self) -> EngineFacts:
        return self._planned().facts

    def count(self, request: Request) -> int:
        return len(self._planned().folder.encode_request(request))

    async def open(self) -> EngineFacts:
        """Starts a worker unless one is running; raises `TokenmillError` if it can't load."""
        async with self._opening:
            plan = await asyncio.to_thread(self._planned)
            if self._worker is None:
                plan = await self._start(plan)
            return plan.facts

    async def probe(self) -> None:
        request = Request(row=0, custom_id="probe", prompt="Hello", sampling=Sampling(max_tokens=1))
        async for _ in self.generate(request):
            pass

    async def generate(self, request: Request) -> AsyncIterator[Chunk | Completion]:
        worker = self._worker
        if worker is None:
            raise self._gone()
        key = next(self._keys)
        inbox: asyncio.Queue[tuple[int, Piece] | EngineError] = asyncio.Queue()
        try:
            worker.send(Submit(key, request, seed_of(request)))
        except WireError as error:
            raise EngineError("refused", f"{request.custom_id}: {error}") from error
        self._inboxes[key] = inbox
        try:
            while True:
                received = await inbox.get()
                if isinstance(received, EngineError):
                    raise received
                width, piece = received
                yield Chunk(piece.text, piece.tokens, width)
                if piece.finish:
                    yield Completion(piece.finish, Usage(piece.prompt_tokens, piece.output_tokens))
                    return
        finally:
            if self._inboxes.pop(key, None) is not None:
                worker.send(Cancel(key))

    async def close(self) -> None:
        async with self._opening:
            worker, self._worker = self._worker, None
            if worker is not None:
                self._drop("it was closed")
                await worker.stop()

    def fresh_processes(self) -> Iterator[WorkerProcess]:
        with contextlib.suppress(IndexError):  # the last one, which another thread may add to at any moment
            while True:
                yield self._fresh.popleft()

    def _planned(self) -> Plan:
        if self._plan is None:
            self._plan = make_plan(self._node, self._options, self._elsewhere)
        return self._plan

    async def _start(self, plan: Plan) -> Plan:
        """What a worker has loaded, or an error that says why there is none."""
        self._loaded = asyncio.get_running_loop().create_future()
        try:
            worker = await self._hire(self._receive, plan.load.threads)
        except OSError as error:
            raise EngineNotOpened(f"node {self._node.name!r}: no worker process can be started ({error})") from error
        if isinstance(worker, WorkerProcess):
            self._fresh.append(worker)
        try:
            if worker.machine is not None:
                machine = self._machine = _as_before(worker.machine, self._machine)
                plan = await asyncio.to_thread(make_plan, self._node, self._options, machine)
            await self._load(worker, plan)
        except BaseException:
            await worker.stop()
            raise
        self._plan, self._worker, self._vain = plan, worker, 0
        worker.ended.add_done_callback(lambda _: self._lost(worker))
        return plan

    async def _load(self, worker: Worker, plan: Plan) -> None:
        assert self._loaded is not None
        worker.send(plan.load)
        await asyncio.wait({self._loaded, worker.ended}, return_when=asyncio.FIRST_COMPLETED)
        if self._loaded.done():
            if fault := self._loaded.result():
                raise EngineNotOpened(f"node {self._node.name!r}: {fault}")
            return
        self._vain += 1
        told = f"node {self._node.name!r}: the worker ended while loading: {await worker.ended}"
        if worker.machine is not None and self._vain < LOADS:
            raise WorkerLost(told)
        raise EngineNotOpened(told)

    def _receive(self, message: FromWorker) -> None:
        match message:
            case Stepped(width=width, pieces=pieces):
                for piece in pieces:
                    self._deliver(piece.key, (width, piece), last=bool(piece.finish))
            case Refused(key=key, kind=kind, message=text):
                self._deliver(key, EngineError(kind, text), last=True)
            case Loaded():
                self._settle_load("")
            case LoadFailed(message=text):
                self._settle_load(text)

    def _settle_load(self, fault: str) -> None:
        """A second answer to a `Load` means nothing."""
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_result(fault)

    def _deliver(self, key: int, item: tuple[int, Piece] | EngineError, *, last: bool) -> None:
        """Unknown keys are those of requests cancelled while the step ran."""
        inbox = self._inboxes.pop(key, None) if last else self._inboxes.get(key)
        if inbox is not None:
            inbox.put_nowait(item)

    def _lost(self, worker: Worker) -> None:
        """The worker ended by itself; every request in flight fails with the cause."""
        if self._worker is worker and not worker.ended.cancelled():
            self._worker = None
            self._drop(worker.ended.result())

    def _drop(self, cause: str) -> None:
        self._cause = cause
        inboxes, self._inboxes = self._inboxes, {}
        for inbox in inboxes.values():
            inbox.put_nowait(self._gone())

    def _gone(self) -> EngineError:
        return EngineError("crash", f"node {self._node.name!r}: no worker, {self._cause}")


def _as_before(now: Machine, before: Machine | None) -> Machine:
    """The machine as it was first seen, if it is the same: what others use of it by now must change no slots."""
    return before if before is not None and (before.host, before.cores) == (now.host, now.cores) else now


def seed_of(request: Request) -> int:
    """The request's own seed, or one that is the same for this id in every attempt, on every node, in every run."""
    if request.sampling.seed is not None:
        return request.sampling.seed
    name = request.custom_id.encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") >> 1

"""Engine `local`: a model folder, answered by a worker process of ours.

This side never loads torch. It decides everything once, from the folder and the machine, so that a worker started
again after a crash is the same as the one before. All text work of a step (tokens, stop strings) is done by the
worker; here one message per step is dealt out to the requests it belongs to.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Iterator

from tokenmill.cluster import EngineFacts, EngineOptions, Node
from tokenmill.engine.local.keeper import Keeper
from tokenmill.engine.local.machine import Machine
from tokenmill.engine.local.settings import Plan, make_plan
from tokenmill.engine.local.supervise import Hire, WorkerProcess, hire_child
from tokenmill.engine.local.wire import Cancel, FromWorker, Piece, Refused, Stepped, Submit, WireError
from tokenmill.errors import EngineError
from tokenmill.request import Chunk, Completion, Request, Sampling, Usage


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
        self._keeper = Keeper(node.name, hire, self._receive, self._dropped)
        self._elsewhere = elsewhere
        self._machine: Machine | None = None
        self._plan: Plan | None = None
        self._keys = itertools.count()
        self._inboxes: dict[int, asyncio.Queue[tuple[int, Piece] | EngineError]] = {}

    def survey(self) -> EngineFacts:
        return self._planned().facts

    def count(self, request: Request) -> int:
        return len(self._planned().folder.encode_request(request))

    async def open(self) -> EngineFacts:
        """Starts a worker unless one is running; raises `TokenmillError` if it can't load."""
        async with self._keeper.opening:
            plan = await asyncio.to_thread(self._planned)
            if self._keeper.worker is None:
                self._plan = plan = await self._start(plan)
            return plan.facts

    async def probe(self) -> None:
        request = Request(row=0, custom_id="probe", prompt="Hello", sampling=Sampling(max_tokens=1))
        async for _ in self.generate(request):
            pass

    async def generate(self, request: Request) -> AsyncIterator[Chunk | Completion]:
        worker = self._keeper.worker
        if worker is None:
            raise self._keeper.gone()
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
        await self._keeper.close()

    def fresh_processes(self) -> Iterator[WorkerProcess]:
        return self._keeper.fresh_processes()

    def _planned(self) -> Plan:
        if self._plan is None:
            self._plan = make_plan(self._node, self._options, self._elsewhere)
        return self._plan

    async def _start(self, plan: Plan) -> Plan:
        """What a worker has loaded, or an error that says why there is none."""
        async with self._keeper.hired(plan.load.threads) as worker:
            if worker.machine is not None:
                machine = self._machine = _as_before(worker.machine, self._machine)
                plan = await asyncio.to_thread(make_plan, self._node, self._options, machine)
            await self._keeper.load(worker, plan.load)
        return plan

    def _receive(self, message: FromWorker) -> None:
        match message:
            case Stepped(width=width, pieces=pieces):
                for piece in pieces:
                    self._deliver(piece.key, (width, piece), last=bool(piece.finish))
            case Refused(key=key, kind=kind, message=text):
                self._deliver(key, EngineError(kind, text), last=True)

    def _deliver(self, key: int, item: tuple[int, Piece] | EngineError, *, last: bool) -> None:
        """Unknown keys are those of requests cancelled while the step ran."""
        inbox = self._inboxes.pop(key, None) if last else self._inboxes.get(key)
        if inbox is not None:
            inbox.put_nowait(item)

    def _dropped(self) -> None:
        """Every request in flight fails with the cause."""
        inboxes, self._inboxes = self._inboxes, {}
        for inbox in inboxes.values():
            inbox.put_nowait(self._keeper.gone())


def _as_before(now: Machine, before: Machine | None) -> Machine:
    """The machine as it was first seen, if it is the same: what others use of it by now must change no slots."""
    return before if before is not None and (before.host, before.cores) == (now.host, now.cores) else now


def seed_of(request: Request) -> int:
    """The request's own seed, or one that is the same for this id in every attempt, on every node, in every run."""
    if request.sampling.seed is not None:
        return request.sampling.seed
    name = request.custom_id.encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") >> 1

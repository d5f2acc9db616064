"""The same requests on one node or on several at once, each kept as busy as asked, measured when all of them are warm.

A run begins with the node that is there first, so its time holds the loading of the others. Here all nodes are opened
and have answered before the first request is measured, so what is compared is how fast they go. Requests are handed
out one by one to whichever node has a place free. Nothing is tried again: a reading with a failure isn't compared.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.measured_run import reading_from
from tokenmill.clock import MonotonicClock
from tokenmill.cluster import EngineFacts, Node
from tokenmill.driver.attempt import Meter, answered, attempt
from tokenmill.driver.metering import is_here
from tokenmill.driver.options import Options, Settings, make_engine
from tokenmill.engine import Engine, StartsProcesses
from tokenmill.errors import EngineError
from tokenmill.event import Attempt
from tokenmill.footprint import Footprint, OwnProcess
from tokenmill.report.certificate import Certificate, certify
from tokenmill.report.facts import NodeFacts, RunFacts, Session, Span
from tokenmill.request import Request, Sampling
from tokenmill.resources import Sampler
from tokenmill.workload import Reader, Spec, scan

#: Its number makes each begin differently, so that none comes out of a cache; no request of a workload begins so.
WARM_UP = "{number} times we say it before we begin."
WARM_UP_TOKENS = 16


class Played(Struct, kw_only=True):
    """What happened after the warm-up, on the clock of the reading."""

    began: float = 0.0
    ended: float = 0.0
    attempts: list[Attempt] = []
    answers: dict[str, str] = {}
    faults: list[str] = []
    footprint: Footprint | None = None


def requests_of(spec: Spec) -> list[Request]:
    """All rows of an input as requests.

    Raises:
        TokenmillError: the input can't be used.
    """
    with TemporaryDirectory(prefix="tokenmill-bench-") as spool:
        scanned = scan(spec, Path(spool))
        entries = list(scanned)
        assert scanned.input is not None
        with Reader(spec, scanned.input) as reader:
            return [reader.request(each.row, each.custom_id, each.offset, each.length, each.line) for each in entries]


def side_by_side(cell: Cell, nodes: Sequence[Node], spec: Spec, settings: Settings) -> Reading:
    """Answers the rows of `spec` with `settings.slots` requests in flight on each of the nodes.

    Raises:
        TokenmillError: a node can't be opened, or the input can't be used.
    """
    assert settings.slots is not None, "the number in flight is what is measured"
    requests = requests_of(spec)
    options = Options(workload=spec)
    engines = [make_engine(node, options, settings) for node in nodes]
    table = _Table(nodes, engines, settings.slots)
    try:
        played, facts = asyncio.run(table.play(requests))
    except EngineError as error:
        return Reading(cell=cell.key, repeat=0, fault=f"a node failed before anything was measured: {error.message}")
    certificate = _certified(nodes, facts, played, settings.slots, len(requests))
    reading = reading_from(cell, certificate, played.attempts, played.answers.items())
    return replace(reading, loading=played.began, notes=tuple(dict.fromkeys(played.faults)))


class _Table:
    """The engines of one reading, from their opening to their end."""

    def __init__(self, nodes: Sequence[Node], engines: Sequence[Engine], width: int) -> None:
        self._nodes, self._engines, self._width = nodes, engines, width
        self._clock = MonotonicClock()
        self._played = Played()
        elsewhere = tuple(node.name for node in nodes if not is_here(node))
        self._sampler = Sampler(self._clock, self._fresh, elsewhere=elsewhere)

    async def play(self, requests: Sequence[Request]) -> tuple[Played, list[EngineFacts]]:
        played = self._played
        try:
            facts = [await engine.open() for engine in self._engines]
            await asyncio.gather(*(self._warm(node) for node in range(len(self._engines))))
            self._sampler.start(self._see)
            played.began = self._clock.now()
            waiting = deque(requests)
            places = (self._work(node, waiting) for _ in range(self._width) for node in range(len(self._engines)))
            await asyncio.gather(*places)
            played.ended = self._clock.now()
        finally:
            for engine in self._engines:
                await engine.close()
            await asyncio.to_thread(self._sampler.finish)
        return played, facts

    async def _warm(self, node: int) -> None:
        """As many requests as are going to be in flight, so that memory for them has been taken."""
        sampling = Sampling(max_tokens=WARM_UP_TOKENS)
        asked = [
            Request(row=number, custom_id=f"warm-{number}", prompt=WARM_UP.format(number=number), sampling=sampling)
            for number in range(node * self._width, (node + 1) * self._width)
        ]
        await asyncio.gather(*(attempt(self._engines[node], each, self._clock, _meter()) for each in asked))

    async def _work(self, node: int, waiting: deque[Request]) -> None:
        """One place of a node: the next request, until none waits."""
        while waiting:
            await self._answer(node, waiting.popleft())

    async def _answer(self, node: int, request: Request) -> None:
        played, meter, sent = self._played, _meter(), self._clock.now()
        tried = Attempt(row=request.row, lease=0, node=node, session=0, outcome="", dispatched=sent, finished=sent)
        try:
            answer = await attempt(self._engines[node], request, self._clock, meter)
        except EngineError as error:
            played.attempts.append(replace(tried, outcome="failed", finished=self._clock.now(), kind=error.kind))
            played.faults.append(f"{self._nodes[node].name}: {error.message}")
            return
        played.answers[request.custom_id] = answer.text
        played.attempts.append(answered(tried, answer, self._clock.now()))

    def _see(self, footprint: Footprint) -> None:
        self._played.footprint = footprint

    def _fresh(self) -> Iterator[tuple[str, OwnProcess]]:
        for node, engine in zip(self._nodes, self._engines, strict=True):
            if isinstance(engine, StartsProcesses):
                for process in engine.fresh_processes():
                    yield f"worker of {node.name}", process


def _meter() -> Meter:
    return Meter(lambda _: None, lambda _, __: None)


def _certified(
    nodes: Sequence[Node], facts: Sequence[EngineFacts], played: Played, width: int, rows: int
) -> Certificate:
    """What a report says of it: the run is the time after the warm-up."""
    up = (Span(0, played.began, played.ended),)
    failed: dict[str, int] = {}
    for each in played.attempts:
        if each.outcome == "failed":
            failed[each.kind] = failed.get(each.kind, 0) + 1
    found = RunFacts(
        nodes=tuple(
            NodeFacts(
                name=node.name,
                model=its.model,
                digest=its.digest,
                slots=min(width, its.slots),
                host=its.host,
                device=its.device,
                up=up,
            )
            for node, its in zip(nodes, facts, strict=True)
        ),
        sessions=(Session(played.began, played.ended),),
        width_asked=width * len(nodes),
        rows_total=rows,
        answered=len(played.answers),
        failed=failed,
        strategy="pull",
        footprints={} if played.footprint is None else {0: played.footprint},
    )
    return certify(found, played.attempts)

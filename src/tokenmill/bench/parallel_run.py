"""One way measured once: a run with its launcher, whose texts join it when all of its workers are up and warm.

A run begins with the worker that is there first, and small data is all handed to that one while the others load. So the
run begins with a request that is none of the texts, and goes on with such requests until every worker is up; then each
gets as many as are going to be in flight, so that memory for them has been taken; then the texts arrive together, and
the clock starts. Figures are those of the texts alone.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.measured_run import reading_from
from tokenmill.bench.parallel_used import Used, used_of
from tokenmill.bench.side_by_side import WARM_UP, WARM_UP_TOKENS, requests_of
from tokenmill.driver.api import Answers, run
from tokenmill.driver.progress import Progress
from tokenmill.engine.local.autotp import check_divisible, check_installed
from tokenmill.engine.local.folder import resolve
from tokenmill.event import Attempt
from tokenmill.footprint import Footprint
from tokenmill.launch.spec import On
from tokenmill.record.store import Record
from tokenmill.report.certificate import certify
from tokenmill.report.facts import NodeFacts, RunFacts, Session, Span
from tokenmill.request import Request, Sampling
from tokenmill.workload import Spec

#: Seconds that workers have to come up, from when the first one is there.
PATIENCE = 300.0
#: What the ids of requests begin with that aren't measured.
WARM = "bench-warm-up-"
#: Signs of a digest that tell two answers apart.
SIGNS = 16


class Way(Struct, frozen=True, kw_only=True):
    """What is done and with what. `launched`: workers, 0 for one process without a launcher. `slots` are of all."""

    model: str
    launched: int
    tp: int
    tp_engine: Literal["native", "deepspeed"]
    slots: int
    threads: int
    strategy: str
    dtype: str
    device: str
    kv_memory: int | None
    force: bool

    @property
    def workers(self) -> int:
        """Nodes of the run."""
        return max(1, self.launched)

    @property
    def slots_of_each(self) -> int:
        return -(-self.slots // self.workers)


class Gate:
    """Holds the texts back until all workers are up and warm; watches the run and says what follows on its answers."""

    def __init__(self, workers: int, slots: int, texts: Sequence[Request]) -> None:
        self._workers, self._slots, self._texts = workers, slots, texts
        self._up = self._made = self._left = 0
        self._deadline: float | None = None
        self._is_warming = False
        self.fault = "not every request before the texts was answered"

    @property
    def first_text(self) -> int:
        """The number of the first row that is a text."""
        return self._made

    def begin(self) -> dict[str, Any]:
        """The run's input."""
        return self._warm()

    def watch(self, progress: Progress, now: float) -> None:  # noqa: ARG002 - the protocol's
        self._up = progress.up

    def leave(self) -> None:
        """There is no screen to put back."""

    def follow(self, request: Request, text: str) -> list[dict[str, Any]]:  # noqa: ARG002 - the protocol's
        """One more while a worker is missing, then those that warm all of them, then the texts."""
        if not request.custom_id.startswith(WARM):
            return []
        if not self._is_warming:
            return self._wait()
        self._left -= 1
        if self._left > 0:
            return []
        self.fault = ""
        return [row_of(each) for each in self._texts]

    def _wait(self) -> list[dict[str, Any]]:
        now = time.monotonic()
        self._deadline = self._deadline or now + PATIENCE
        if self._up >= self._workers:
            self._is_warming = True
            self._left = self._workers * self._slots
            return [self._warm() for _ in range(self._left)]
        if now > self._deadline:
            self.fault = f"{self._up} of {self._workers} workers were up after {PATIENCE:g} s"
            return []
        return [self._warm()]

    def _warm(self) -> dict[str, Any]:
        number, self._made = self._made, self._made + 1
        return {
            "custom_id": f"{WARM}{number}",
            "prompt": WARM_UP.format(number=number),
            "max_tokens": WARM_UP_TOKENS,
        }


def measure(cell: Cell, way: Way, spec: Spec, folder: Path) -> Reading:
    """The texts of `spec` answered in that way, in a run whose folder is removed afterwards.

    Raises:
        TokenmillError: this way can't be had here; nothing was started.
    """
    if way.tp_engine == "deepspeed":
        check_divisible(resolve(way.model), way.tp)
        check_installed()
    gate, runs = Gate(way.workers, way.slots_of_each, requests_of(spec)), folder / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    try:
        answers = run([gate.begin()], runs_dir=runs, watcher=gate, follow=gate.follow, **options_of(way))
        if gate.fault or not answers.is_complete:
            return Reading(cell=cell.key, repeat=0, fault=gate.fault or "the run was stopped before its end")
        return reading_of(cell, way, gate.first_text, answers)
    finally:
        shutil.rmtree(runs, ignore_errors=True)


def options_of(way: Way) -> dict[str, Any]:
    """As for `tokenmill.run`. No request is sent twice, so that all ways do the same work."""
    found: dict[str, Any] = {
        "model": way.model,
        "slots": way.slots_of_each,
        "threads": way.threads,
        "strategy": way.strategy,
        "dtype": way.dtype,
        "device": way.device,
        "kv_memory": way.kv_memory,
        "hedge": False,
    }
    if way.launched:
        on = On(kind="processes", workers=way.launched, tp=way.tp, tp_engine=way.tp_engine, force=way.force)
        found |= {"on": on, "together": "yes"}  # whether they are worth it is measured here
    return found


def row_of(request: Request) -> dict[str, Any]:
    """A request as the row that it came from."""
    row: dict[str, Any] = {"custom_id": request.custom_id}
    if request.messages:
        row["messages"] = [{"role": each.role, "content": each.content} for each in request.messages]
    else:
        row["prompt"] = request.prompt
    usual = Sampling()
    chosen = {name: getattr(request.sampling, name) for name in Sampling.__struct_fields__}
    return row | {name: value for name, value in chosen.items() if value != getattr(usual, name)}


def reading_of(cell: Cell, way: Way, first: int, answers: Answers) -> Reading:
    """What a finished run came to from row `first` on."""
    record = Record(answers.folder / "record.db")
    try:
        attempts = [each for each in record.attempts() if each.row >= first]
        nodes = sorted({number: facts for _, number, _, facts in record.nodes()}.items())
        began = max(moment for _, moment, _ in record.births())
        results = [each for each in record.results() if each.row >= first]
        footprint = record.footprints().get(0)
    finally:
        record.close()
    ended = max((each.finished for each in attempts), default=began)
    texts = {each.custom_id: each.text for each in results if each.text is not None}
    facts = RunFacts(
        nodes=tuple(
            NodeFacts(
                name=f"worker {number}",
                model=its.model,
                digest=its.digest,
                slots=its.slots,
                host=its.host,
                device=its.device,
                up=(Span(0, began, ended),),
            )
            for number, its in nodes
        ),
        sessions=(Session(began, ended),),
        width_asked=way.slots_of_each * way.workers,
        rows_total=len(results),
        answered=len(texts),
        failed=_counted(each.kind for each in results if each.kind),
        strategy=way.strategy,
    )
    reading = reading_from(cell, certify(facts, attempts), attempts, texts.items())
    used = used_of(footprint, began, ended) if footprint is not None else Used()
    return replace(
        reading,
        loading=began,
        answers={each.custom_id: _digest(each.text, each.output_tokens) for each in results if each.text is not None},
        peak_rss=used.peaks,
        energy=used.figures.get("joules"),
        missing=_missing(reading.missing, used, footprint),
        extra=_rates(texts.values(), len(texts), ended - began) | {"at_work": at_work(attempts)} | used.figures,
        advice=(),  # it names options that the suite chooses
    )


def at_work(attempts: Sequence[Attempt]) -> float:
    """The mean number of workers that generate at the same time, over the time in which any does."""
    by_node: dict[int, list[tuple[float, float]]] = {}
    for each in attempts:
        if each.outcome == "answered":
            start = each.dispatched if each.first_token is None else each.first_token
            by_node.setdefault(each.node, []).append((start, each.finished))
    whole = _length([span for spans in by_node.values() for span in spans])
    return sum(map(_length, by_node.values())) / whole if whole > 0 else 1.0


def _length(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that these spans cover together."""
    covered, end = 0.0, float("-inf")
    for start, finish in sorted(spans):
        covered += max(0.0, finish - max(start, end))
        end = max(end, finish)
    return covered


def _rates(texts: Iterable[str], count: int, seconds: float) -> dict[str, float]:
    if seconds <= 0:
        return {}
    words = sum(len(text.split()) for text in texts)
    return {"texts_per_second": count / seconds, "words_per_second": words / seconds}


def _missing(found: Mapping[str, str], used: Used, footprint: Footprint | None) -> dict[str, str]:
    """Why figures aren't there, those of the machine by what was seen of it."""
    kept = {name: why for name, why in found.items() if name not in ("memory", "energy")}
    return kept | (used.missing if footprint is not None else {"energy": "the run recorded no resources"})


def _counted(kinds: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for kind in kinds:
        found[kind] = found.get(kind, 0) + 1
    return found


def _digest(text: str, tokens: int) -> str:
    return hashlib.sha256(f"{tokens} {text}".encode()).hexdigest()[:SIGNS]

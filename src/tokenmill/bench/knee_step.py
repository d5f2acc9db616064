"""One step of a load sweep: opens the node, puts it under load, and reads off what the window shows."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.bench.arrivals import due_times
from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.load import Load, Shot, Window
from tokenmill.bench.step import Limits, Step, latency, share_of, step_of, tpot, ttft
from tokenmill.cluster import EngineFacts
from tokenmill.driver.node_file import nodes_of
from tokenmill.driver.options import Options, Settings, absolute, make_engine
from tokenmill.driver.source import derived_seed
from tokenmill.engine import Engine
from tokenmill.errors import EngineError, UsageError
from tokenmill.report.certificate import Certificate, certify
from tokenmill.report.facts import DevicePace, NodeFacts, RunFacts, Session, Span
from tokenmill.request import Chunk, Request, Sampling
from tokenmill.workload import Entry, Reader, Spec, scan

#: Each begins differently, so that no answer comes out of a cache.
PROMPT = "Count from {number} upwards, one number after the other."
#: Requests of one token, one after the other, that show the idle node; the first ones may be slow.
ALONE = 5


class Plan(Struct, frozen=True, kw_only=True):
    """One step: a closed loop of `width`, or an open one of `rate` requests a second if `width` is None."""

    node: str
    model: str | None
    source: str
    max_tokens: int
    slots: int
    width: int | None
    arrivals: str
    rate: float
    seed: str
    seconds: float
    warm_up: float
    patience: float
    limits: Limits


class Rows(Struct, frozen=True):
    """An input that was scanned: where its rows lie, and what reads them."""

    spec: Spec
    entries: list[Entry]
    reader: Reader


@contextmanager
def open_input(source: str, max_tokens: int) -> Iterator[Rows]:
    """The rows of a file or a built-in set.

    Raises:
        TokenmillError: it can't be read, or a row is faulty.
    """
    spec = Spec(source=absolute(source), sampling=Sampling(max_tokens=max_tokens))
    with tempfile.TemporaryDirectory() as spool:
        scanned = scan(spec, Path(spool))
        entries = list(scanned)
        assert scanned.input is not None
        with Reader(spec, scanned.input) as reader:
            yield Rows(replace(spec, endpoint=scanned.input.endpoint), entries, reader)


def measure_step(cell: Cell, plan: Plan) -> tuple[Reading, tuple[DevicePace, ...]]:
    """The step as a reading, and the paces that the node showed; a node that can't be used is its fault."""
    if not plan.source:
        return _measured(cell, plan, Spec(source=""), _short_prompts(plan))
    with open_input(plan.source, plan.max_tokens) as rows:
        return _measured(cell, plan, rows.spec, _rows_for_ever(rows))


def node_facts(node: str, model: str | None, slots: int | None) -> EngineFacts:
    """What the node says of itself, without being opened."""
    return _engine(node, model, slots, Spec(source="")).survey()


def _engine(node: str, model: str | None, slots: int | None, spec: Spec) -> Engine:
    settings = Settings(nodes=(node,), model=model, slots=slots)
    found = nodes_of(settings)
    if len(found) != 1:
        raise UsageError(f"--node {node}: stands for {len(found)} nodes, and a load sweep is of one; name one")
    return make_engine(found[0], Options(workload=spec), settings)


def _short_prompts(plan: Plan) -> Iterator[Request]:
    random, sampling = Random(plan.seed), Sampling(max_tokens=plan.max_tokens)
    for row in itertools.count():
        prompt = PROMPT.format(number=int(random.random() * 1e9))
        yield Request(row=row, custom_id=f"load-{row}", prompt=prompt, sampling=sampling)


def _rows_for_ever(rows: Rows) -> Iterator[Request]:
    """The rows in order, again and again, each time as a request of its own."""
    for row, entry in enumerate(itertools.cycle(rows.entries)):
        request = rows.reader.request(entry.row, entry.custom_id, entry.offset, entry.length, entry.line)
        sampling = request.sampling
        if sampling.temperature > 0 and sampling.seed is None:
            sampling = replace(sampling, seed=derived_seed(0, f"{row}"))
        yield replace(request, row=row, custom_id=f"{entry.custom_id}.{row}", sampling=sampling)


def _measured(
    cell: Cell, plan: Plan, spec: Spec, requests: Iterator[Request]
) -> tuple[Reading, tuple[DevicePace, ...]]:
    window = Window(plan.warm_up, plan.warm_up + plan.seconds)
    try:
        opened = asyncio.run(_played(plan, spec, requests, window))
    except EngineError as error:
        return Reading(cell=cell.key, repeat=0, fault=f"the idle node gave no token: {error}"), ()
    step = step_of(opened.shots, window, opened.alone, plan.limits)
    certificate = certify(_facts(plan, opened), (shot.attempt for shot in opened.shots))
    return _reading(cell, plan, opened, step, certificate), certificate.paces


class Opened(Struct, frozen=True, kw_only=True):
    """A step that was played: `loading` and `alone`, the TTFT of the idle node, in seconds."""

    facts: EngineFacts
    loading: float
    alone: float
    shots: list[Shot]


async def _played(plan: Plan, spec: Spec, requests: Iterator[Request], window: Window) -> Opened:
    now = asyncio.get_running_loop().time
    engine = _engine(plan.node, plan.model, plan.slots, spec)
    began = now()
    try:
        facts = await engine.open()
        loading = now() - began
        alone = await _alone(engine, requests)
        load = Load(engine, requests, window, plan.patience)
        if plan.width is not None:
            await load.closed(plan.width)
        else:
            await load.open(due_times(plan.arrivals, plan.rate, plan.seed))
    finally:
        await engine.close()
    return Opened(facts=facts, loading=loading, alone=alone, shots=load.shots)


async def _alone(engine: Engine, requests: Iterator[Request]) -> float:
    """Median seconds to the first token of a node that does nothing else."""
    now, times = asyncio.get_running_loop().time, []
    for request in itertools.islice(requests, ALONE):
        sent, first = now(), None
        async for part in engine.generate(replace(request, sampling=replace(request.sampling, max_tokens=1))):
            if first is None and isinstance(part, Chunk):
                first = now()
        times.append((now() if first is None else first) - sent)
    return median(times)


def _facts(plan: Plan, opened: Opened) -> RunFacts:
    """The step as a run of one session, for the certificate that tells overlap, width and paces."""
    attempts = [shot.attempt for shot in opened.shots]
    end, facts = max((each.finished for each in attempts), default=0.0), opened.facts
    outcomes = [each.outcome for each in attempts]
    kinds = [each.kind for each in attempts if each.outcome == "failed"]
    most = plan.width or max(facts.slots, 1)
    node = NodeFacts(
        name="node",
        model=facts.model,
        digest=facts.digest,
        slots=max(facts.slots, most),
        host=facts.host,
        device=facts.device,
        up=(Span(0, 0.0, end),),
    )
    return RunFacts(
        nodes=(node,),
        sessions=(Session(0.0, end),),
        width_asked=most,
        rows_total=len(attempts),
        answered=outcomes.count("answered"),
        failed={kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
    )


def _reading(cell: Cell, plan: Plan, opened: Opened, step: Step, certificate: Certificate) -> Reading:
    latencies = [latency(shot) for shot in step.answered]
    cost = None
    if latencies and step.tokens > 0:
        cost = step.seconds / step.tokens if plan.width is not None else median(latencies)
    return Reading(
        cell=cell.key,
        repeat=0,
        seconds=step.seconds,
        loading=opened.loading,
        requests=len(step.answered) + sum(step.failed.values()),
        answered=len(step.answered),
        failed=step.failed,
        prompt_tokens=sum(shot.attempt.prompt_tokens for shot in step.answered),
        output_tokens=round(step.tokens),
        latencies=tuple(round(each, 6) for each in latencies),
        ttft=tuple(round(ttft(shot), 6) for shot in step.answered),
        overlap=certificate.audit.overlap.value,
        width=certificate.audit.width_mean.value,
        audit=certificate.audit.verdict,
        reason=certificate.audit.reason,
        missing={"energy": "a load sweep doesn't measure it"},
        extra=_extra(step, is_open=plan.width is None),
        cost=cost,
        notes=_notes(step, plan),
        fault="" if step.answered or step.failed else _nothing(step, plan),
    )


def _extra(step: Step, *, is_open: bool) -> dict[str, float]:
    found = {"requests_per_second": step.answered_rate}
    if step.answered:
        found |= {
            "ttft_p95": share_of(map(ttft, step.answered), 0.95),
            "queue_wait": share_of(step.waits, 0.5),
        }
    paces = [pace for shot in step.answered if (pace := tpot(shot)) is not None]
    if paces:
        found |= {"tpot_p50": share_of(paces, 0.5), "tpot_p95": share_of(paces, 0.95)}
    if step.good_rate is not None:
        found["goodput"] = step.good_rate
    if is_open and step.drift.arrivals:
        found |= {
            "offered": step.offered,
            "sent_late": share_of(step.late, 0.95),
            "growth": step.drift.rise / step.drift.arrivals,
            "trend": step.drift.tau,
        }
    return found


def _notes(step: Step, plan: Plan) -> tuple[str, ...]:
    if not step.unfinished:
        return ()
    return (f"{step.unfinished} requests had not ended {plan.patience:g} s after the window and count nowhere",)


def _nothing(step: Step, plan: Plan) -> str:
    if step.unfinished:
        return f"no request that was due in the window ended within {plan.patience:g} s; raise --patience"
    return f"no request was due in the window of {plan.seconds:g} s; raise --seconds or the rate"

"""Which pipeline: what really happens to a list of prompts when people say that they batch it.

Five ways to answer the same prompts greedily with one model on the local engine: one by one; a function that takes a
list and loops; threads behind one lock; a static padded batch; and a continuous batch, which is a run of tokenmill as
it is. Each has its own fresh process, loads the model itself, and is judged by the audit of runs from the attempts it
made, so a pipeline is called a batch for what the engine did and not for its name. None of them is warmed up: the
first pass of each costs what it costs.

With a recipe each prompt is an input row that is generated from, validated and refined for some rounds, in the same way
by all; equal work is an equal data set, byte for byte.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.in_hand import InHand
from tokenmill.bench.instructions import input_rows, instructions, words
from tokenmill.bench.measured_run import RUNS, measure_run, reading_from, with_data_set
from tokenmill.bench.numbers import numbers_in
from tokenmill.bench.pipelines import Blocking, Ledger, Locked, Looping, in_groups, in_threads, one_by_one
from tokenmill.bench.table import Row
from tokenmill.bench.untrained import SHAPES, make_model
from tokenmill.clock import Clock, MonotonicClock
from tokenmill.cluster import EngineFacts, EngineOptions, Node
from tokenmill.driver.options import absolute
from tokenmill.errors import InputFaults, UsageError
from tokenmill.pipeline import Recipe
from tokenmill.pipeline.lexical import LEXICAL
from tokenmill.pipeline.read import load
from tokenmill.report.audit import SEQUENTIAL
from tokenmill.report.certificate import Certificate, certify
from tokenmill.report.facts import NodeFacts, RunFacts, Session, Span
from tokenmill.request import Request
from tokenmill.stats.claim import Claim
from tokenmill.stats.interval import paired_ratio

if TYPE_CHECKING:
    from tokenmill.engine.local.settings import Plan

PIPELINE, WIDTH = "Pipeline", "at a time"
ONE_BY_ONE, LOOP, LOCKED = "one by one", "loop called batch", "threads behind one lock"
STATIC, CONTINUOUS = "static padded batch", "continuous batch"
#: What it means if one of them turns out to be sequential.
MEANING = {
    LOOP: "a function that takes a list and loops inside changes nothing",
    LOCKED: "threads behind a lock change nothing",
}
#: Random models are kept beside the sweeps, as they are large and always the same.
MODELS = "models"
#: Places for tokens are given in multiples of this.
ROUND = 64
#: Most places for one request of a recipe.
MOST_CONTEXT = 1024


class BatchingOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is compared, and on what work."""

    model: Annotated[str, Meta(description="A model folder, a hub id or 'demo'; default: random weights.")] = ""
    shape: Annotated[
        Literal["124m", "small", "tiny"],
        Meta(description="Size of the random weights: 124m (GPT-2's); small, which loads at once; tiny, for a trial."),
    ] = "124m"
    batch: Annotated[str, Meta(description="Requests at a time, separated by commas.")] = "8"
    prompts: Annotated[int, Meta(description="How many prompts.", ge=1)] = 16
    max_tokens: Annotated[int, Meta(description="Longest answer, in tokens; most are shorter.", ge=1)] = 16
    dtype: Annotated[
        Literal["fp32", "bf16"], Meta(description="Precision; in bf16 the width of a batch may change answers.")
    ] = "fp32"
    threads: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="Threads; default: all cores.")] = None
    pipeline: Annotated[
        str, Meta(description="A recipe's name or file: each prompt becomes a row that is validated and refined.")
    ] = ""


class Batching:
    """The suite."""

    name = "batching"
    unit = "request at a time"
    varied = WIDTH
    example = "--batch 8 --prompts 16"
    options = BatchingOptions
    columns = (
        ("Success rate", "success"),
        ("Total time", "seconds"),
        ("Average time", "per_answer"),
        ("Init time", "loading"),
        ("Speedup", "speedup"),
        ("overlap", "overlap"),
        ("width", "width"),
        ("memory", "memory"),
    )

    def settled(self, options: BatchingOptions, where: Path) -> BatchingOptions:  # noqa: ARG002 - the protocol's
        if not options.pipeline:
            return options
        options = replace(options, pipeline=absolute(options.pipeline))
        recipe_of(options)
        return options

    def prepare(self, options: BatchingOptions, folder: Path) -> None:
        if not options.model:
            make_model(_random(options, folder), SHAPES[options.shape], words())
        _context(options, folder)

    def cells(self, options: BatchingOptions) -> list[Cell]:
        widths = numbers_in("--batch", options.batch)
        if 1 in widths:
            raise UsageError("--batch 1 is no batch, and one by one is measured anyway; give numbers from 2")
        base = Cell(group="", factors={PIPELINE: ONE_BY_ONE, WIDTH: 1}, is_baseline=True)
        ways = (LOOP, LOCKED, CONTINUOUS) if options.pipeline else (LOOP, LOCKED, STATIC, CONTINUOUS)
        return [
            base,
            *(Cell(group="", factors={PIPELINE: way, WIDTH: width}, workers=width) for width in widths for way in ways),
        ]

    def measure(self, options: BatchingOptions, cell: Cell, folder: Path) -> Reading:
        if options.pipeline:
            return _measure_recipe(options, cell, folder)
        requests = instructions(options.prompts, options.max_tokens)
        if cell.factors[PIPELINE] != CONTINUOUS:
            return _measure_here(options, cell, folder, requests)
        return measure_run(
            cell,
            folder,
            [
                {"custom_id": each.custom_id, "prompt": each.prompt, "max_tokens": each.sampling.max_tokens}
                for each in requests
            ],
            model=_target(options, folder),
            slots=cell.factors[WIDTH],
            context=_context(options, folder),
            dtype=options.dtype,
            threads=options.threads,
        )

    def findings(self, options: BatchingOptions, rows: Sequence[Row]) -> list[str]:  # noqa: ARG002 - the protocol's
        whole = [row for row in rows if row.seconds.value is not None]
        if not whole:
            return ["no pipeline answered all prompts"]
        return [
            *_equality(whole),
            *_stories(whole),
            *(said for row in whole if (said := _judged(row))),
            *_best_batch(whole),
        ]


SUITE = Batching()


def _random(options: BatchingOptions, folder: Path) -> Path:
    return (folder.parent / MODELS / f"gpt2-{options.shape}").absolute()


def _target(options: BatchingOptions, folder: Path) -> str:
    return options.model or str(_random(options, folder))


def _context(options: BatchingOptions, folder: Path) -> int:
    """Places for the longest prompt with the longest answer, the same for all pipelines: one may need them all."""
    from tokenmill.engine.local.folder import ModelFolder, resolve

    model = ModelFolder(resolve(_target(options, folder)))
    if options.pipeline:  # nobody knows yet what later prompts will quote
        return min(model.config.context, MOST_CONTEXT)
    requests = instructions(options.prompts, options.max_tokens)
    most = max(len(model.encode_request(request)) for request in requests) + options.max_tokens
    if most > model.config.context:
        raise UsageError(
            f"--max-tokens {options.max_tokens}: with the longest prompt that is {most} tokens, and this model takes "
            f"{model.config.context}; give at most {model.config.context - most + options.max_tokens}"
        )
    return min(model.config.context, -(-most // ROUND) * ROUND)


def recipe_of(options: BatchingOptions) -> Recipe:
    """The recipe that was named; raises `UsageError` for one that asks a model for vectors.

    One that compares vectors and doesn't say whose compares wording.
    """
    try:
        recipe = load(options.pipeline)
    except InputFaults:
        recipe = load(options.pipeline, embedding=LEXICAL)
    if recipe.embedding not in (None, LEXICAL):
        raise UsageError(
            f"--pipeline {options.pipeline}: its checks ask the embedding model {recipe.embedding!r}, which would be "
            f"timed as well; use a recipe without one, or with embedding = {LEXICAL!r}"
        )
    return recipe


def _measure_recipe(options: BatchingOptions, cell: Cell, folder: Path) -> Reading:
    """A data set of the instructions, made by a run, or by hand as this pipeline does it."""
    recipe, target, width = recipe_of(options), _target(options, folder), int(cell.factors[WIDTH])
    rows = input_rows(options.prompts, recipe.input or "text")
    given = {
        "slots": width,
        "context": _context(options, folder),
        "dtype": options.dtype,
        "threads": options.threads,
        "max_tokens": options.max_tokens,
    }
    if cell.factors[PIPELINE] == CONTINUOUS:
        return measure_run(cell, folder, rows, model=target, pipeline=recipe, **given)
    runs = folder / RUNS
    shutil.rmtree(runs, ignore_errors=True)
    try:
        hand = InHand(runs, rows, recipe, target, **given)

        def work(model: Blocking, ledger: Ledger, clock: Clock) -> None:
            if cell.factors[PIPELINE] == LOCKED:
                hand.tell_at_once(width, ledger, clock, Locked(model).generate)
            elif cell.factors[PIPELINE] == LOOP:
                hand.tell_in_groups(width, ledger, clock, Looping(model).generate)
            else:
                hand.tell_in_groups(1, ledger, clock, lambda requests: one_by_one(model, requests))

        reading, certificate = _measure_blocking(options, cell, folder, work)
        return with_data_set(reading, *hand.data_set(certificate))
    finally:
        shutil.rmtree(runs, ignore_errors=True)


def _measure_here(options: BatchingOptions, cell: Cell, folder: Path, requests: Sequence[Request]) -> Reading:
    """Loads the model in this process, as such scripts do, with the choices that a run would make."""
    width, pipeline = int(cell.factors[WIDTH]), str(cell.factors[PIPELINE])
    if pipeline != STATIC:

        def work(model: Blocking, ledger: Ledger, clock: Clock) -> None:  # noqa: ARG001 - others need all three
            _answer(pipeline, model, requests, width)

        return _measure_blocking(options, cell, folder, work)[0]
    clock, plan = MonotonicClock(), _plan(options, cell, folder)
    from tokenmill.bench.padded import PaddedBatch

    ledger = Ledger(clock)
    padded = PaddedBatch(plan.folder, plan.load, ledger)
    loaded = clock.now()
    in_groups(padded, requests, width)
    reading, _ = _read(cell, plan, ledger, loaded, clock.now())
    return replace(reading, extra={"wasted": padded.wasted})


def _measure_blocking(
    options: BatchingOptions, cell: Cell, folder: Path, work: Callable[[Blocking, Ledger, Clock], None]
) -> tuple[Reading, Certificate]:
    """Has a model that calls block on do the work."""
    clock, plan = MonotonicClock(), _plan(options, cell, folder)
    from tokenmill.engine.local.session import load_session

    ledger = Ledger(clock)
    model = Blocking(load_session(plan.load), ledger)
    loaded = clock.now()
    work(model, ledger, clock)
    return _read(cell, plan, ledger, loaded, clock.now())


def _plan(options: BatchingOptions, cell: Cell, folder: Path) -> Plan:
    """How the model is loaded; torch must not be imported before, as it reads its environment once."""
    from tokenmill.engine.local.environment import worker_environment
    from tokenmill.engine.local.settings import make_plan

    node = Node(name=cell.factors[PIPELINE], engine="local", target=_target(options, folder))  # type: ignore[arg-type]
    width, context = int(cell.factors[WIDTH]), _context(options, folder)
    plan = make_plan(node, EngineOptions(slots=width, threads=options.threads, dtype=options.dtype, context=context))
    os.environ.update(worker_environment(os.environ, plan.load.threads))
    return plan


def _read(cell: Cell, plan: Plan, ledger: Ledger, loaded: float, end: float) -> tuple[Reading, Certificate]:
    facts = _facts(plan.facts, int(cell.factors[WIDTH]), ledger, loaded, end)
    certificate = certify(facts, ledger.attempts)
    reading = reading_from(cell, certificate, ledger.attempts, ledger.answers.items())
    return replace(reading, advice=()), certificate  # advice names options of a run, and this was none


def _answer(pipeline: str, model: Blocking, requests: Sequence[Request], width: int) -> None:
    if pipeline == ONE_BY_ONE:
        one_by_one(model, requests)
    elif pipeline == LOOP:
        in_groups(Looping(model), requests, width)
    else:
        in_threads(model, requests, width)


def _facts(engine: EngineFacts, width: int, ledger: Ledger, loaded: float, end: float) -> RunFacts:
    """What a run's record would say of the pipeline, seconds on its clock."""
    node = NodeFacts(
        name="here",
        model=engine.model,
        digest=engine.digest,
        slots=width,
        device=engine.device,
        loads=(Span(0, 0.0, loaded),),
        up=(Span(0, loaded, end),),
    )
    return RunFacts(
        nodes=(node,),
        sessions=(Session(0.0, end),),
        width_asked=width,
        rows_total=len(ledger.attempts),
        answered=len(ledger.answers),
        failed=ledger.failed,
    )


def _equality(rows: Sequence[Row]) -> list[str]:
    """Whether all pipelines wrote the same."""
    found = dict.fromkeys(digest for row in rows for digest in row.digests)
    made = "made the same data set" if "rounds" in rows[0].extra else "gave the same answers"
    if len(found) == 1:
        return [f"equal work: all {len(rows)} pipelines {made} every time (digest {next(iter(found))[:12]})"]
    usual = rows[0].digests[0]
    others = ", ".join(row.cell.title for row in rows if row.digests != (usual,))
    return [
        f"answers differ from those of {rows[0].cell.title}: {others}; in bf16 the width of a batch decides between "
        "tokens of nearly the same probability, --dtype fp32 makes that rare"
    ]


def _stories(rows: Sequence[Row]) -> list[str]:
    """With a recipe, how many rows succeeded, in how many rounds; once if all pipelines say the same."""
    found = {(row.success.value or 0.0, row.extra["rounds"]): row for row in rows if "rounds" in row.extra}
    said = []
    for (success, turns), row in found.items():
        who = "each pipeline" if len(found) == 1 else row.cell.title
        said.append(f"{who}: {100 * success:.0f} % of the rows met every target, after {turns:.2f} rounds on average")
    return said


def _judged(row: Row) -> str:
    """What a pipeline was called and what it was."""
    if row.cell.is_baseline or row.claim is None or row.width.value is None:
        return ""
    width, asked = row.width.value, row.cell.factors[WIDTH]
    seen = f"overlap {row.overlap.value or 0:.2f}, mean batch width {width:.2f}"
    pipeline = str(row.cell.factors[PIPELINE])
    if row.audit == SEQUENTIAL:
        meaning = MEANING.get(pipeline, "it was no batch")
        return f"{pipeline}: asked for {asked} at a time, one ran ({seen}): {meaning}; against one by one: {row.claim}"
    waste = f"; {100 * row.extra['wasted']:.0f} % of what it computed was thrown away" if "wasted" in row.extra else ""
    return f"{pipeline}: asked for {asked} at a time, {row.audit} ({seen}){waste}; against one by one: {row.claim}"


def _best_batch(rows: Sequence[Row]) -> list[str]:
    """The continuous batch against the static one, in pairs, for each width."""
    found = {(row.cell.factors[PIPELINE], row.cell.factors[WIDTH]): row for row in rows}
    said = []
    for (pipeline, width), ours in found.items():
        theirs = found.get((STATIC, width))
        if pipeline == CONTINUOUS and theirs is not None:
            pairs = [repeat for repeat in ours.rates if repeat in theirs.rates]
            ratio = paired_ratio([ours.rates[each] for each in pairs], [theirs.rates[each] for each in pairs])
            said.append(f"{CONTINUOUS} against {STATIC}, {width} at a time: {Claim(ratio=ratio)}")
    return said

"""Whether more processes beat one: data parallel workers and tensor parallel ranks, on the same cores, or a GPU each.

Every reading is a run as `tokenmill run --on` does it, with its launcher, record and strategy; the clock begins when
all workers are up and warm, as otherwise the one that is there first would have done the work. What all are held
against is the best that one process can do: all cores or one GPU, and all requests in one batch. So on GPUs N ranks
have N times what the baseline has, which efficiency and findings say. On a processor one process with one thread
stands beside it under its own name, because against that alone nearly everything is fast.

In fp32 the greedy tokens of every way must be those of the baseline; a reading whose aren't is void. A way that can't
be had, such as more ranks than cores or heads that don't divide, is a row without figures that says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Factor, Reading
from tokenmill.bench.numbers import names_in, numbers_in
from tokenmill.bench.parallel_charts import charts_of
from tokenmill.bench.parallel_findings import findings_of, power_of, rebased, voided
from tokenmill.bench.parallel_ways import BASELINE, DEEPSPEED, DP, MODE, ONE_THREAD, RANKS, SINGLE, TP, group_of
from tokenmill.bench.suite import FOUND
from tokenmill.bench.table import Row
from tokenmill.bench.untrained import SHAPES, make_model
from tokenmill.driver.options import absolute
from tokenmill.errors import UsageError
from tokenmill.report.plots import Chart
from tokenmill.request import Sampling
from tokenmill.workload import Spec, builtin, scan
from tokenmill.workload.spec import STDIN

MODES = (BASELINE, DP, TP, DEEPSPEED)
#: Random models are kept beside the sweeps, as they are large and always the same; their words are those of the texts.
MODELS = "models"
#: Words of a built-in text that are its prompt.
PROMPT_WORDS = 5
GIBIBYTE = 1 << 30


class ParallelOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is compared, and on what work."""

    modes: Annotated[str, Meta(description="Of baseline, dp, tp and deepspeed, separated by commas.")] = (
        "baseline,dp,tp,deepspeed"
    )
    workers: Annotated[str, Meta(description="Workers of dp, and ranks of tp and deepspeed from 2 on.")] = "1,2,4"
    source: Annotated[
        str, Meta(description="A file of prompts or a built-in set; of texts the first 5 words are the prompt.")
    ] = builtin.TEXTS
    limit: Annotated[str, Meta(description="Sizes of the data: only the first N rows, separated by commas.")] = "32"
    max_tokens: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="Longest answer, in tokens.")] = None
    model: Annotated[str, Meta(description="A model folder, a hub id or 'demo'; default: random weights.")] = ""
    shape: Annotated[
        Literal["124m", "small", "tiny", "llama-1b", "llama-tiny"],
        Meta(description="Of the random weights: 124m, small and tiny are GPT-2s, llama-1b and llama-tiny Llamas."),
    ] = "124m"
    slots: Annotated[int, Meta(description="Requests in flight, of all workers together.", ge=1)] = 32
    strategy: Annotated[
        Literal["pull", "static"], Meta(description="How dp hands out its work: pull, or static, which deals it out.")
    ] = "pull"
    dtype: Annotated[
        Literal["fp32", "bf16"], Meta(description="Precision; only in fp32 answers must equal the baseline's.")
    ] = "fp32"
    device: Annotated[Literal["cpu", "cuda"], Meta(description="Where ranks compute.")] = "cpu"
    kv_memory: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="GiB of KV memory of a rank; cuda needs it.")
    ] = None
    force: Annotated[bool, Meta(description="Measure more ranks than cores too.")] = False
    found: Annotated[int, Meta(description="Cores of the machine.", extra=FOUND)] = 1

    @property
    def sizes(self) -> list[int]:
        return numbers_in("--limit", self.limit)


class Parallel:
    """The suite."""

    name = "parallel"
    unit = "core, or GPU with --device cuda"
    varied = ""  # all ways have the same cores, so no number of workers is a resource
    example = "--modes baseline,dp,tp --workers 1,2 --limit 8,32,128"
    options = ParallelOptions
    columns = (
        ("time", "seconds"),
        ("speedup", "speedup"),
        ("texts/s", "texts_per_second"),
        ("words/s", "words_per_second"),
        ("tok/s", "tokens_per_second"),
        ("at work", "at_work"),
        ("width", "width"),
        ("efficiency", "efficiency"),
        ("p50", "latency_p50"),
        ("p95", "latency_p95"),
        ("p99", "latency_p99"),
        ("worker memory", "worker_memory"),
        ("memory", "memory"),
        ("overlap", "overlap"),
        ("init", "loading"),
        ("power", "power"),
        ("energy", "joules"),
        ("J/token", "joules_per_token"),
        ("GPU use", "gpu_busy"),
        ("GPU memory", "gpu_memory"),
    )

    def settled(self, options: ParallelOptions, where: Path) -> ParallelOptions:  # noqa: ARG002 - the protocol's
        """The cores of this machine; names that hold in any working folder; an input that has so many rows."""
        try:
            from tokenmill.engine.local.machine import usable_cores
        except ModuleNotFoundError as error:
            raise UsageError(f"the local engine needs {error.name}: pip install 'tokenmill[local]'") from error
        if options.source == STDIN:
            raise UsageError("--source -: each reading reads the prompts again, standard input can't be; name a file")
        if options.device == "cuda" and options.kv_memory is None:
            raise UsageError("--device cuda needs --kv-memory, as free memory there isn't known before loading")
        options = replace(
            options,
            source=absolute(options.source),
            model=absolute(options.model) if options.model not in ("", "demo") else options.model,
            found=usable_cores(),
        )
        most = max(options.sizes)
        with TemporaryDirectory(prefix="tokenmill-bench-") as spool:
            there = sum(1 for _ in scan(spec_of(options, most), Path(spool)))
        if there < most:
            raise UsageError(f"--limit {most}: {options.source} has {there} rows; give at most that")
        self.cells(options)
        return options

    def prepare(self, options: ParallelOptions, folder: Path) -> None:
        if not options.model:
            make_model(_random(options, folder), SHAPES[options.shape], _words())

    def cells(self, options: ParallelOptions) -> list[Cell]:
        modes, workers = names_in("--modes", options.modes, MODES), numbers_in("--workers", options.workers)
        ways = [
            (mode, number)
            for mode in modes
            if mode != BASELINE
            for number in workers
            if mode == DP or number > 1  # one rank divides nothing: it is one worker
        ]
        if not ways:
            raise UsageError(
                f"--modes {options.modes} --workers {options.workers}: nothing to compare one process with; tp and "
                "deepspeed need 2 or more, dp 1 or more"
            )
        return [cell for size in options.sizes for cell in _cells(options, size, ways)]

    def measure(self, options: ParallelOptions, cell: Cell, folder: Path) -> Reading:
        from tokenmill.bench.parallel_run import Way, measure

        mode, workers = str(cell.factors[MODE]), int(cell.factors.get(RANKS, 1))
        size = int(cell.group.split()[0])
        way = Way(
            model=options.model or str(_random(options, folder)),
            launched={DP: workers, TP: 1, DEEPSPEED: 1}.get(mode, 0),
            tp=workers if mode in (TP, DEEPSPEED) else 1,
            tp_engine="deepspeed" if mode == DEEPSPEED else "native",
            slots=min(options.slots, size),
            threads=threads_of(options, mode, workers),
            strategy=options.strategy,
            dtype=options.dtype,
            device=options.device,
            kv_memory=None if options.kv_memory is None else int(options.kv_memory * GIBIBYTE),
            force=options.force,
        )
        return measure(cell, way, spec_of(options, size), folder)

    def judged(
        self, options: ParallelOptions, cells: Sequence[Cell], readings: Sequence[Reading]
    ) -> tuple[list[Cell], list[Reading]]:
        """Others are held against one thread where that is shown to be the best single process."""
        kept = voided(cells, readings) if options.dtype == "fp32" else list(readings)
        return rebased(cells, kept), kept

    def findings(self, options: ParallelOptions, rows: Sequence[Row]) -> list[str]:
        return [
            _given(options),
            *power_of(rows),
            *findings_of(options.sizes, rows, must_equal=options.dtype == "fp32"),
        ]

    def charts(self, options: ParallelOptions, rows: Sequence[Row]) -> list[Chart]:
        return list(charts_of(options.sizes, rows))


SUITE = Parallel()


def _given(options: ParallelOptions) -> str:
    """What each way has of the machine."""
    flight = f"up to {options.slots} requests in flight in all"
    if options.device != "cpu":
        return (
            f"each way has {flight}; {SINGLE} has one GPU, and N ranks of {DP}, {TP} or {DEEPSPEED} have N: their "
            "speedup is that of N GPUs over one, their efficiency is counted per GPU"
        )
    return (
        f"all ways share {options.found} core{'s' * (options.found > 1)}, with {flight}; "
        f"{SINGLE} has everything, the cores of {DP} and {TP} are divided among their processes"
    )


def spec_of(options: ParallelOptions, size: int) -> Spec:
    """The first `size` rows."""
    return Spec(source=options.source, limit=size, sampling=Sampling(max_tokens=options.max_tokens))


def threads_of(options: ParallelOptions, mode: str, workers: int) -> int:
    """Threads of each process: all cores for one, its part of them for one of several."""
    if mode == ONE_THREAD:
        return 1
    return max(1, options.found // (1 if mode == SINGLE else workers))


def _words() -> set[str]:
    """Those of the built-in texts' prompts; those of other sources are read byte by byte."""
    texts = (str(row["text"]).split() for row in builtin.builtin_rows(builtin.TEXTS))
    return {word for text in texts for word in text[:PROMPT_WORDS]}


def _random(options: ParallelOptions, folder: Path) -> Path:
    family = SHAPES[options.shape].family
    name = options.shape if options.shape.startswith(family) else f"{family}-{options.shape}"
    return (folder.parent / MODELS / f"{name}-texts").absolute()


def _cells(options: ParallelOptions, size: int, ways: Sequence[tuple[str, int]]) -> list[Cell]:
    """All ways on data of one size. What each is given of the machine is its `workers`: cores, or GPUs."""
    group = group_of(size)

    def cell(mode: str, number: int, **factors: Factor) -> Cell:
        given = number
        if options.device == "cpu":
            given = min(options.found, number * threads_of(options, mode, number))
        return Cell(group=group, factors={MODE: mode, **factors}, workers=given, is_baseline=mode == SINGLE)

    singles = [cell(SINGLE, 1)]
    if options.device == "cpu" and options.found > 1:
        singles.append(cell(ONE_THREAD, 1))
    return [*singles, *(cell(mode, number, **{RANKS: number}) for mode, number in ways)]

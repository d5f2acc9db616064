"""Holds quantization to its targets: speed beside others' tools, the cost of threads, and memory.

    python benchmarks/quantize.py --llama-quantize PATH --llm-compressor VENV/bin/python     everything, 20 minutes
    python benchmarks/quantize.py --only memory --rounds 3                                   one part of it

Models and outputs are in memory (`--files`, /dev/shm), so no disk is in the figures. Every reading is a process of its
own; the ways of a part are read in turns, in an order drawn anew for each round, and medians are compared. Start-up and
imports are left out on all sides; what ours takes with them is printed too. Without llama-quantize, ggml's own
quantizer is called in its place (`--ggml`, the library in the npm package of node-llama-cpp), between reads and writes
like ours and after a pass that widens BF16 to floats, as it takes only those. llm-compressor is installed apart:
`pip install llmcompressor==0.14.0.1 torch==2.13.0` into a virtual environment.

Targets end with pass, fail or n/a; the exit code is 1 if one failed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from statistics import median

import numba
import numpy as np

from quantize_ways import GGML, GGML_TYPES, KERNELS, WHOLE, Reading, llama, llm_compressor, ours
from tokenmill import __version__
from tokenmill.bench.quantize_cell import medium_of
from tokenmill.bench.quantize_models import write_model
from tokenmill.bench.quantize_sizes import BATCH, COPIES, MOVE, NOTHING, STREAM, size_of
from tokenmill.quant.layout import Options
from tokenmill.quant.machine import cores
from tokenmill.quant.target import plan_layout, read_model
from tokenmill.record.folder import machine_facts

ROOT = Path(__file__).parents[1]
GGML_LIBRARY = Path(".cache/web/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/libggml-base.so")
SEED = 5
PARTS = ("speed", "peers", "threads", "memory")
#: How many times as fast as llama-quantize, and how much of the time of only moving the bytes, by threads.
FASTER = {"q4_0": 3.0, "q8_0": 4.0, "q4_k": 4.0}
OF_MOVING = {1: 0.60, 2: 0.75}
FASTER_THAN_COMPRESSOR = 10.0
#: Growth of the kernels' processor seconds from one to two threads; speedup of Q4_K.
GROWTH, SPEEDUP = 1.10, 1.8
#: Bytes over an idle process: fixed and for each thread; share of batch mode's memory; of its time.
FIXED, EACH, SHARE, TIME = 8_000_000, 2 << 20, 0.10, 1.05
#: One tensor of 2 GB.
HUGE = "1x131072x8192"
#: Rounds of what takes half a minute each on other tools.
SLOW = 3
#: Further rounds of two ways that take seconds and are near each other, as a neighbour may slow down any of them.
MORE = 4


@dataclass
class Bench:
    """The readings by way, and the verdicts."""

    files: Path
    size: str
    rounds: int
    rng: Random = field(default_factory=lambda: Random(SEED))
    readings: dict[str, list[Reading]] = field(default_factory=dict)
    verdicts: list[tuple[str, str]] = field(default_factory=list)

    def play(self, ways: dict[str, Callable[[], Reading]], rounds: int | None = None) -> None:
        """Reads every way once a round, in turns."""
        for number in range(rounds or self.rounds):
            for name in self.rng.sample(list(ways), len(ways)):
                reading = ways[name]()
                self.readings.setdefault(name, []).append(reading)
                told = reading.get("fault") or ", ".join(
                    f"{key} {value:.4g}" for key, value in reading.items() if value
                )
                print(f"  {number + 1}  {name}: {told}", flush=True)

    def of(self, name: str, what: str = "seconds") -> float | None:
        """The median of a figure; None if there is none."""
        found = [reading[what] for reading in self.readings.get(name, []) if reading.get(what) is not None]
        return median(found) if found else None

    def judge(self, said: str, value: float | None, limit: float, *, at_least: bool, form: str = ".2f") -> None:
        """Prints one target with its outcome."""
        word = "at least" if at_least else "at most"
        if value is None:
            outcome, told = "n/a", "not measured"
        else:
            outcome = "pass" if (value >= limit if at_least else value <= limit) else "fail"
            told = format(value, form)
        self.verdicts.append((outcome, f"{said}: {told} ({word} {limit:{form}})"))
        print(f"{outcome:4}  {self.verdicts[-1][1]}", flush=True)

    def ratio(self, above: str, below: str, what: str = "seconds") -> float | None:
        first, second = self.of(above, what), self.of(below, what)
        return first / second if first and second else None

    def own(
        self, way: str, to: str, threads: int, size: str = "", library: Path | None = None
    ) -> Callable[[], Reading]:
        return partial(ours, way, to, threads, size or self.size, self.files, library)


def speed(bench: Bench, given: argparse.Namespace) -> None:
    """Ours against llama-quantize or ggml, and against only moving the bytes."""
    write_model(size_of(bench.size), "q4_0", bench.files)
    tool, library = given.llama_quantize, given.ggml if given.ggml and given.ggml.exists() else None
    other = "llama-quantize" if tool else "ggml"
    if not tool and not library:
        print(f"neither --llama-quantize nor {given.ggml} is there: comparisons with them are n/a")
    for to in FASTER:
        ways: dict[str, Callable[[], Reading]] = {}
        for threads in given.threads:
            ways[f"ours {to} {threads}"] = bench.own(STREAM, to, threads)
            ways[f"moved {to} {threads}"] = bench.own(MOVE, to, threads)
            ways[f"memcpy {threads}"] = bench.own(COPIES, to, threads)
            if tool:
                ways[f"llama-quantize {to} {threads}"] = partial(llama, tool, to, threads, bench.size, bench.files)
            elif library and to in GGML_TYPES:
                ways[f"ggml {to} {threads}"] = bench.own(GGML, to, threads, library=library)
        bench.play(ways, SLOW if to == "q4_k" else None)
    for threads in given.threads:
        for to, limit in FASTER.items():
            times = bench.ratio(f"{other} {to} {threads}", f"ours {to} {threads}")
            bench.judge(f"{to}, {counted(threads)}, times as fast as {other}", times, limit, at_least=True)
        for to in ("q4_0", "q8_0"):
            share = bench.ratio(f"moved {to} {threads}", f"ours {to} {threads}")
            limit = OF_MOVING.get(threads, OF_MOVING[2])
            bench.judge(f"{to}, {counted(threads)}, speed of only moving bytes", share, limit, at_least=True)


def peers(bench: Bench, given: argparse.Namespace) -> None:
    """Ours against llm-compressor's way without a model, W4A16, from the same folder with one safetensors file."""
    write_model(size_of(bench.size), "w4a16", bench.files)
    python = given.llm_compressor
    ways: dict[str, Callable[[], Reading]] = {}
    for threads in given.threads:
        ways[f"ours w4a16 {threads}"] = bench.own(STREAM, "w4a16", threads)
        ways[f"moved w4a16 {threads}"] = bench.own(MOVE, "w4a16", threads)
        ways[f"whole w4a16 {threads}"] = bench.own(WHOLE, "w4a16", threads)
        if python:
            ways[f"llm-compressor {threads}"] = partial(llm_compressor, python, threads, bench.size, bench.files)
    bench.play(ways)
    for threads in given.threads:
        times = bench.ratio(f"llm-compressor {threads}", f"ours w4a16 {threads}")
        said = f"w4a16, {counted(threads)}, times as fast as llm-compressor"
        bench.judge(said, times, FASTER_THAN_COMPRESSOR, at_least=True)


def threads(bench: Bench, given: argparse.Namespace) -> None:
    """The kernels alone, from memory into a buffer, and the whole work of Q4_K, with one thread and with two."""
    del given
    small = "100M"
    types = ("q8_0", "q4_0", "w4a16", "q4_k", "q6_k")
    for to in types:
        write_model(size_of(small), to, bench.files)
    if cores() < 2:
        print("one core: what two threads cost can't be measured")
        return
    bench.play({f"kernels {to}": bench.own(KERNELS, to, 2, small) for to in types})
    for to in types:
        grown = bench.of(f"kernels {to}", "growth")
        bench.judge(f"{to}, processor seconds of 2 threads against 1", grown, GROWTH, at_least=False, form=".3f")
    gain = bench.of("kernels q4_k", "gain")
    bench.judge("q4_k, speedup of the kernels with 2 threads", gain, SPEEDUP, at_least=True)
    write_model(size_of(bench.size), "q4_k", bench.files)
    bench.play({f"alone q4_k {count}": bench.own(STREAM, "q4_k", count) for count in (1, 2)}, bench.rounds + MORE)
    gain = bench.ratio("alone q4_k 1", "alone q4_k 2")
    bench.judge("q4_k, speedup with 2 threads, the whole work", gain, SPEEDUP, at_least=True)
    for to in types:
        one = bench.of(f"kernels {to}", "cpu")
        if one:
            print(f"      {to}: {size_of(small).bytes / one / 1e9:.2f} GB of BF16 a second of one core")


def memory(bench: Bench, given: argparse.Namespace) -> None:
    """The largest memory over a process with the same imports and kernels that does nothing; and batch mode."""
    count, to = max(given.threads), "q4_0"
    sizes = ("100M", bench.size, HUGE)
    for size in sizes:
        place = write_model(size_of(size), to, bench.files)
        ways = {
            f"{NOTHING} {size}": bench.own(NOTHING, to, count, size),
            f"{STREAM} {size}": bench.own(STREAM, to, count, size),
            f"{BATCH} {size}": bench.own(BATCH, to, count, size),
        }
        bench.play(ways)
        weights = read_model(place)
        header = sum(len(file.header) for file in plan_layout(weights, place, options(to)).files)
        idle, peak = bench.of(f"{NOTHING} {size}", "peak"), bench.of(f"{STREAM} {size}", "peak")
        over = (peak - idle) / 1e6 if peak and idle else None
        limit = (FIXED + count * EACH + header) / 1e6
        bench.judge(f"{size}, {counted(count)}, MB over an idle process", over, limit, at_least=False)
        if size == HUGE:
            place.unlink()
    share = bench.ratio(f"{STREAM} {bench.size}", f"{BATCH} {bench.size}", "peak")
    bench.judge(f"{bench.size}, all memory as a share of batch mode's", share, SHARE, at_least=False, form=".3f")
    slower = bench.ratio(f"{STREAM} {bench.size}", f"{BATCH} {bench.size}")
    bench.judge(f"{bench.size}, time as a share of batch mode's", slower, TIME, at_least=False)


def counted(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def options(to: str) -> Options:
    return Options(to=to)


def environment(bench: Bench, given: argparse.Namespace) -> Iterator[str]:
    """What the figures hold for."""
    yield ", ".join(f"{name} {value}" for name, value in machine_facts().items())
    yield (
        f"tokenmill {__version__}, python {platform.python_version()}, numpy {np.__version__}, "
        f"numba {numba.__version__}; {cores()} cores for this process, load {os.getloadavg()[0]:.2f}; "
        f"files in {medium_of(bench.files)}; {datetime.datetime.now(datetime.UTC).date()}"
    )
    shape = size_of(bench.size)
    yield f"{bench.size} is {shape.shape}: {shape.weights:,} weights, {shape.bytes / 1e9:.2f} GB in BF16"
    yield f"llama-quantize: {given.llama_quantize or 'n/a'}; llm-compressor: {given.llm_compressor or 'n/a'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, separated by commas: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="readings of each way")
    parser.add_argument("--threads", default="1,2", help="thread counts that are compared, separated by commas")
    parser.add_argument("--size", default="600M", help="the model of speed, peers and memory")
    parser.add_argument("--files", type=Path, default=Path("/dev/shm/tokenmill-quantize"), help="where files are")
    parser.add_argument("--llama-quantize", type=Path, metavar="PATH", help="the program, if it is there")
    parser.add_argument("--ggml", type=Path, default=ROOT / GGML_LIBRARY, metavar="PATH", help="libggml-base.so")
    parser.add_argument("--llm-compressor", type=Path, metavar="PYTHON", help="a python that has it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write readings and verdicts there")
    given = parser.parse_args()
    given.threads = [int(word) for word in given.threads.split(",")]
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown part {sorted(unknown)[0]!r}; known: {', '.join(PARTS)}")
    given.files.mkdir(parents=True, exist_ok=True)
    bench = Bench(given.files, given.size, given.rounds)
    facts = list(environment(bench, given))
    print("\n".join(facts), flush=True)
    for part in parts:
        print(f"-- {part}", flush=True)
        {"speed": speed, "peers": peers, "threads": threads, "memory": memory}[part](bench, given)
    print("-- medians")
    for name in bench.readings:
        seconds, cpu, peak = (bench.of(name, what) for what in ("seconds", "cpu", "peak"))
        seconds = seconds or bench.of(name, "whole")
        figures = [f"{seconds:.3f} s" if seconds is not None else "n/a", f"CPU {cpu:.3f} s" if cpu else ""]
        figures.append(f"peak {peak / 1e6:.1f} MB" if peak else "")
        print(f"  {name}: {', '.join(filter(None, figures))}")
    print("-- targets")
    for outcome, said in bench.verdicts:
        print(f"{outcome:4}  {said}")
    if given.json:
        kept = {"environment": facts, "readings": bench.readings, "targets": bench.verdicts}
        given.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(outcome == "fail" for outcome, _ in bench.verdicts))


if __name__ == "__main__":
    main()

"""Quantizes once and says what it took: the way that users have it, ways to hold it against, and nothing at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from tokenmill import __version__
from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.quantize_sizes import BATCH, COPIES, MOVE, NOTHING, STREAM, Size
from tokenmill.clock import MonotonicClock
from tokenmill.quant.chunks import Chunk
from tokenmill.quant.encoding import Bits
from tokenmill.quant.encodings import NULL
from tokenmill.quant.files import Files
from tokenmill.quant.kernels import without_scipy
from tokenmill.quant.layout import COPY, Layout, Options
from tokenmill.quant.quality import compare
from tokenmill.quant.quantize import Plan, Settings, make_plan, quantize
from tokenmill.quant.target import plan_layout, read_model
from tokenmill.quant.tensor import ELEMENTS
from tokenmill.quant.work import Buffers
from tokenmill.resources.process import own_peak

#: What the process is called among peaks of memory: its own mark, which its parent's doesn't touch.
PROCESS = "quantize"
#: Bytes that are copied before the copy begins anew, many times what fits into a processor's cache, and at a time.
RING, PIECE = 256 << 20, 1 << 20
#: Chunks in which the error is looked at.
SAMPLED = 4


class Asked(Struct, frozen=True, kw_only=True):
    """One reading: the way, the model and where it is, the type, threads, and where the output goes for a moment."""

    way: str
    size: Size
    to: str
    threads: int
    model: Path
    out: Path


class Taken(Struct, frozen=True, kw_only=True):
    """Seconds by the clock and of the processors, and the largest memory of the process until then."""

    seconds: float
    cpu: float
    peak: int


def measure(cell: Cell, asked: Asked, idle: float | None) -> Reading:
    """Does the work of a cell once; `idle` is the memory of a process that did nothing, None if it isn't known."""
    start = time.monotonic()
    if asked.way == COPIES:
        return _reading(cell, asked, _copy(asked), time.monotonic() - start, idle, "", {})
    plan = plan_of(asked)
    with without_scipy():
        warm(plan)
    if asked.way == MOVE:
        plan = plan_of(asked, is_moved=True)
    loading = time.monotonic() - start
    if asked.way == NOTHING:
        taken = Taken(seconds=loading, cpu=time.process_time(), peak=own_peak())
        return _reading(cell, asked, taken, 0.0, None, "", {})
    try:
        taken = _timed(lambda: carry_out(plan, asked))
        digest, error = "", {}
        if asked.way != MOVE:
            digest, error = digest_of(asked.out), error_of(plan, asked.out)
    finally:
        remove(asked.out)
    return _reading(cell, asked, taken, loading, idle, digest, error)


def _reading(
    cell: Cell,
    asked: Asked,
    taken: Taken,
    loading: float,
    idle: float | None,
    digest: str,
    error: dict[str, float],
) -> Reading:
    extra = {"work_cpu": taken.cpu, **error}
    if asked.way != NOTHING:
        extra["read_rate"] = asked.size.bytes / taken.seconds / 1e9
        extra["weights_rate"] = asked.size.weights / taken.seconds
    if idle is not None and asked.way != COPIES:
        extra["memory_over_idle"] = taken.peak - idle
    return Reading(
        cell=cell.key,
        repeat=0,
        seconds=taken.seconds,
        loading=loading,
        requests=1,
        answered=1,
        output_tokens=asked.size.weights,
        digest=digest,
        peak_rss={PROCESS: taken.peak},
        missing={"energy": "this suite doesn't measure it"},
        extra=extra,
    )


def plan_of(asked: Asked, *, is_moved: bool = False) -> Plan:
    """The plan as the command makes it, or one that writes as much without computing it."""
    options = Options(to=asked.to)
    weights = read_model(asked.model)
    layout = plan_layout(weights, asked.model, options)
    if is_moved:
        layout = without_work(layout)
    settings = Settings(threads=asked.threads, mode=BATCH if asked.way == BATCH else STREAM)
    return make_plan(weights, layout, asked.out, settings)


def without_work(layout: Layout) -> Layout:
    """The same sizes at the same places, filled with bytes that are only moved."""
    placed = tuple(
        each if each.encoding in (COPY, *ELEMENTS) else replace(each, encoding=NULL + each.encoding)
        for each in layout.placed
    )
    return replace(layout, placed=placed)


def warm(plan: Plan) -> None:
    """Has every kernel compiled or loaded that the plan needs, and no memory for its chunks taken."""
    kinds = {(part.placed.encoding, part.placed.tensor.element): part for part in plan.chunks.parts}
    for part in kinds.values():
        if part.encoding is None:
            continue
        element = part.placed.tensor.element
        bits = np.zeros((1, part.columns), np.uint16 if ELEMENTS[element] == 2 else np.uint32)
        outputs = tuple(np.zeros(size, np.uint8) for size in part.row_sizes)
        part.encoding.encode(bits, element, outputs, part.encoding.scratch(part.columns))


def carry_out(plan: Plan, asked: Asked) -> None:
    """What the command does, without its screen."""
    quantize(
        plan,
        Options(to=asked.to),
        Settings(threads=asked.threads, mode=BATCH if asked.way == BATCH else STREAM),
        version=__version__,
        watch=lambda _: None,
        should_stop=lambda: False,
        clock=MonotonicClock(),
    )


def _timed(work: Callable[[], None]) -> Taken:
    start, cpu = time.monotonic(), time.process_time()
    work()
    return Taken(seconds=time.monotonic() - start, cpu=time.process_time() - cpu, peak=own_peak())


def _copy(asked: Asked) -> Taken:
    """Copies as many bytes as the model has in memory, in pieces, by so many threads."""
    ring = min(asked.size.bytes, RING) // asked.threads // PIECE * PIECE or PIECE
    sides = [(np.ones(ring, np.uint8), np.ones(ring, np.uint8)) for _ in range(asked.threads)]
    share = -(-asked.size.bytes // asked.threads // PIECE)

    def copy(side: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
        source, target = side
        for number in range(share):
            begin = number * PIECE % ring
            target[begin : begin + PIECE] = source[begin : begin + PIECE]

    def work() -> None:
        threads = [threading.Thread(target=copy, args=(side,)) for side in sides]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return _timed(work)


def error_of(plan: Plan, out: Path) -> dict[str, float]:
    """How far the largest quantized tensor is from what it was, in some of its chunks."""
    parts = [part for part in plan.chunks.parts if part.encoding is not None and part.placed.encoding not in ELEMENTS]
    if not parts:
        return {}
    part = max(parts, key=lambda each: each.rows * each.row_size)
    files = out_files(plan, out)
    reader, buffers = Files(plan.weights.files, ()), Buffers(plan.chunks)
    sums = np.zeros(5)
    try:
        for number in range(part.first, part.first + min(part.chunks, SAMPLED)):
            chunk = plan.chunks[number]
            content = buffers.input(chunk)
            reader.read(chunk, content, buffers.spare(chunk))
            sums += compare(chunk, _bits(chunk, content), _written(chunk, files))
    finally:
        reader.close()
    share = float(sums[0] / sums[1]) if sums[1] else 0.0
    return {"relative_rmse": share**0.5, "sqnr": float(-10 * np.log10(share))} if share else {"relative_rmse": 0.0}


def out_files(plan: Plan, out: Path) -> tuple[Path, ...]:
    """The weight files of the output under its final name."""
    return tuple(out / path.name for path in plan.output.files) if out.is_dir() else (out,)


def _bits(chunk: Chunk, content: NDArray[np.uint8]) -> Bits:
    shape = (chunk.rows, chunk.part.columns)
    if ELEMENTS[chunk.part.placed.tensor.element] == 2:
        return content.view(np.uint16).reshape(shape)
    return content.view(np.uint32).reshape(shape)


def _written(chunk: Chunk, files: tuple[Path, ...]) -> tuple[NDArray[np.uint8], ...]:
    """The outputs of a chunk as they stand on disk."""
    part = chunk.part
    return tuple(
        np.fromfile(files[place.file], np.uint8, chunk.rows * size, offset=place.offset + chunk.begin * size)
        for place, size in zip(part.placed.places, part.row_sizes, strict=True)
    )


def digest_of(place: Path) -> str:
    """Of the output's weights, so that equal work can be told."""
    found = hashlib.blake2b(digest_size=16)
    paths = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                found.update(piece)
    return found.hexdigest()


def remove(out: Path) -> None:
    """Removes an output and what a killed process left of it."""
    for path in out.parent.glob(f"{out.name}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def medium_of(folder: Path) -> str:
    """The kind of file system a folder is on, as Linux names it; empty where that isn't told."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    real, best = str(folder.resolve()), ("", "")
    for line in lines:
        _, place, kind, *_ = line.split(" ")
        if os.path.commonpath([real, place]) == place and len(place) >= len(best[0]):
            best = place, kind
    return best[1]

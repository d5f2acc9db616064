"""How fast weights are quantized, in how much memory, and what sets the pace: threads, memory or the disk.

Each cell is the command's own work on a model of random weights in a real file, in a fresh process. Beside it stand the
same reading and writing without quantization, plain copying in memory, and a process that does nothing: what is beyond
the first is the cost of the arithmetic, what is beyond the last the memory of the work. The clock runs from the plan to
the output under its final name, safe on disk; the input is in the page cache, as it has just been written or read.

Threads beyond the cores are measured if asked for, but count as so many workers as there are cores.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Factor, Reading
from tokenmill.bench.folder import SweepFolder
from tokenmill.bench.numbers import names_in, numbers_in, words_in
from tokenmill.bench.quantize_findings import Found, findings_of
from tokenmill.bench.quantize_sizes import (
    BATCH,
    COPIES,
    MOVE,
    NOTHING,
    STREAM,
    Size,
    group_of,
    named,
    size_of,
    sizes_in,
)
from tokenmill.bench.suite import FOUND
from tokenmill.bench.table import Row
from tokenmill.errors import UsageError

#: Bytes of the output for each byte of the input that are reckoned with before it is planned.
AT_MOST = 0.6
#: Bytes that stay free whatever is measured.
SPARE = 1 << 28


class QuantizeOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is swept."""

    threads: Annotated[str, Meta(description="Threads, separated by commas.")] = "1,2"
    sizes: Annotated[
        str, Meta(description="100M, 600M, 7B (of a study, 3.36e9), true-7B, or tensors such as 50x512x4096.")
    ] = "100M"
    to: Annotated[str, Meta(description="Types as quantize has them, separated by commas.")] = "q4_0"
    streaming: Annotated[bool, Meta(description="Compare streaming with holding everything in memory.")] = False
    files: Annotated[
        str, Meta(description="Where models and outputs are, such as /dev/shm; default: beside the sweeps.")
    ] = ""
    found: Annotated[Found, Meta(extra=FOUND)] = Found()


class QuantizeSuite:
    """The suite."""

    name = "quantize"
    unit = "thread"
    varied = "threads"
    example = "--sizes 100M,600M --threads 1,2,4,8 --to q4_0,q4_k --streaming --target 'speedup@8>=4'"
    options = QuantizeOptions
    columns = (
        ("time", "seconds"),
        ("GB/s", "read_rate"),
        ("speedup", "speedup"),
        ("efficiency", "efficiency"),
        ("CPU", "work_cpu"),
        ("over idle", "memory_over_idle"),
        ("memory", "memory"),
        ("error", "relative_rmse"),
        ("SQNR", "sqnr"),
        ("weights/s", "weights_rate"),
        ("start", "loading"),
    )

    def settled(self, options: QuantizeOptions, where: Path) -> QuantizeOptions:
        """Looks at what this machine has room for, before anything is written."""
        try:
            from tokenmill.bench.quantize_cell import medium_of
            from tokenmill.quant.machine import cores
            from tokenmill.quant.target import known_names
        except ModuleNotFoundError as error:
            raise UsageError(f"quantizing needs {error.name}: pip install 'tokenmill[quant]'") from error
        sizes = sizes_in(words_in(options.sizes))
        names_in("--to", options.to, known_names())
        numbers_in("--threads", options.threads)
        files = (Path(options.files) if options.files else where / "models").absolute()
        there = next(folder for folder in (files, *files.parents) if folder.exists())
        medium = medium_of(there)
        skipped = tuple(_too_large(options, sizes, files, there, is_memory=medium in ("tmpfs", "ramfs")))
        options = replace(options, files=str(files), found=Found(cores=cores(), medium=medium, skipped=skipped))
        if not self.cells(options):
            raise UsageError(f"--sizes {options.sizes}: {'; '.join(f'{name} {why}' for name, _, why in skipped)}")
        return options

    def prepare(self, options: QuantizeOptions, folder: Path) -> None:
        from tokenmill.bench.quantize_cell import remove
        from tokenmill.bench.quantize_models import write_model

        for size in _sizes(options):
            for to in words_in(options.to):
                write_model(size, to, Path(options.files))
        remove(_out(options, folder, ""))

    def cells(self, options: QuantizeOptions) -> list[Cell]:
        threads, types = numbers_in("--threads", options.threads), words_in(options.to)
        sizes = _sizes(options)
        idle = [_idle(sizes[0], to) for to in types] if sizes else []
        return [*idle, *(cell for size in sizes for cell in _cells(options, size, types, threads))]

    def measure(self, options: QuantizeOptions, cell: Cell, folder: Path) -> Reading:
        from tokenmill.bench.quantize_cell import Asked, measure
        from tokenmill.bench.quantize_models import place_of

        name, to = named(cell.group)
        size, files = size_of(name), Path(options.files)
        asked = Asked(
            way=str(cell.factors["way"]),
            size=size,
            to=to,
            threads=int(cell.factors.get("threads", 1)),
            model=place_of(size, to, files),
            out=_out(options, folder, to),
        )
        return measure(cell, asked, _idle_memory(folder, _idle(_sizes(options)[0], to)))

    def findings(self, options: QuantizeOptions, rows: Sequence[Row]) -> list[str]:
        return findings_of(options.found, _sizes(options), rows)


SUITE = QuantizeSuite()


def _sizes(options: QuantizeOptions) -> list[Size]:
    """Those that there is room for."""
    out = {name for name, way, _ in options.found.skipped if way == STREAM}
    return [size for size in sizes_in(words_in(options.sizes)) if size.name not in out]


def _idle(size: Size, to: str) -> Cell:
    """The process that does nothing; measured first, as the memory of the others is counted from its."""
    return Cell(group=group_of(size.name, to, "idle"), factors={"way": NOTHING}, is_baseline=True)


def _cells(options: QuantizeOptions, size: Size, types: Sequence[str], threads: Sequence[int]) -> Iterator[Cell]:
    has_batch = options.streaming and (size.name, BATCH) not in {each[:2] for each in options.found.skipped}
    for to in types:
        for way in (STREAM, *([BATCH] if has_batch else [])):
            yield from _of_way(options, group_of(size.name, to), way, threads)
        yield from _of_way(options, group_of(size.name, to, "only moved"), MOVE, threads)
    yield from _of_way(options, group_of(size.name, types[0], "in memory"), COPIES, threads)


def _of_way(options: QuantizeOptions, group: str, way: str, threads: Sequence[int]) -> Iterator[Cell]:
    cores = options.found.cores
    for number in threads:
        is_beyond = 0 < cores < number
        note: dict[str, Factor] = {"note": f"more than the {cores} cores"} if is_beyond else {}
        yield Cell(
            group=group,
            factors={"way": way, "threads": number, **note},
            workers=cores if is_beyond else number,
            is_baseline=way != BATCH and number == threads[0],
            stage=1,
        )


def _out(options: QuantizeOptions, folder: Path, to: str) -> Path:
    """Where an output of this sweep goes; without a type, how all of them begin."""
    from tokenmill.bench.quantize_models import is_folder_type

    name = f".{folder.name}-out"
    return Path(options.files) / (name if not to or is_folder_type(to) else f"{name}.gguf")


def _idle_memory(folder: Path, idle: Cell) -> float | None:
    peaks = [sum(each.peak_rss.values()) for each in SweepFolder(folder).readings() if each.cell == idle.key]
    return median(filter(None, peaks)) if any(peaks) else None


def _too_large(
    options: QuantizeOptions, sizes: Sequence[Size], files: Path, there: Path, *, is_memory: bool
) -> Iterator[tuple[str, str, str]]:
    """Sizes that don't fit on the disk, and those that don't fit into memory as a whole: name, way and reason."""
    from tokenmill.bench.quantize_models import is_folder_type, place_of
    from tokenmill.quant.machine import free_memory

    disk, memory = shutil.disk_usage(there).free - SPARE, free_memory()
    for size in sizes:
        kinds = {is_folder_type(to): to for to in words_in(options.to)}
        new = sum(size.bytes for to in kinds.values() if not place_of(size, to, files).exists())
        output = int(AT_MOST * size.bytes)
        if new + output > disk:
            yield size.name, STREAM, f"takes {_gb(new + output)} and {_gb(disk)} are free there; see --files"
            continue
        disk -= new
        if memory is None:
            continue
        memory -= new if is_memory else 0
        needed = size.bytes + output * (2 if is_memory else 1) + SPARE
        if options.streaming and needed > memory:
            yield size.name, BATCH, f"takes {_gb(needed)} of memory and {_gb(memory)} are free"


def _gb(size: float) -> str:
    return f"{max(0.0, size) / 1e9:.1f} GB"

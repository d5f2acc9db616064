"""What a sweep of quantization shows: whether threads pay or something else sets the pace, and what streaming costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from tokenmill.bench.quantize_sizes import BATCH, MOVE, NOTHING, STREAM, Size, named
from tokenmill.bench.table import Row
from tokenmill.report.numbers import seconds

#: From what efficiency on it scales, and from what share of the time on moving bytes is what sets the pace.
SCALES, MOVES = 0.85, 0.6
#: Growth of processor seconds that says that threads hinder each other.
HINDERS = 0.15


class Found(Struct, frozen=True, kw_only=True):
    """What was there when the sweep began.

    `medium`: the file system that models and outputs are on. `skipped`: size, way and why it isn't measured.
    """

    cores: int = 0
    medium: str = ""
    skipped: tuple[tuple[str, str, str], ...] = ()


def findings_of(found: Found, sizes: Sequence[Size], rows: Sequence[Row]) -> list[str]:
    """In sentences, each with its evidence."""
    said = [
        f"{size.name} is {size.shape}: {size.weights:,} weights, {size.bytes / 1e9:.2f} GB in BF16" for size in sizes
    ]
    if found.medium:
        said.append(f"models and outputs are on {found.medium}; models stay for the next sweep")
    said += [f"{name}, {way}: n/a, as it {why}" for name, way, why in found.skipped]
    if any(_note(row) for row in rows):
        said.append(f"{found.cores} cores: more threads than that are no more workers, and count as {found.cores}")
    for size in sizes:
        for to in dict.fromkeys(named(row.cell.group)[1] for row in rows if _at(row, "way") == STREAM):
            of_type = [row for row in rows if named(row.cell.group) == (size.name, to)]
            said += _pace(f"{size.name} {to}", of_type)
            said += _memory(f"{size.name} {to}", of_type, [row for row in rows if _at(row, "way") == NOTHING])
    return said


def _at(row: Row, factor: str) -> object:
    return row.cell.factors.get(factor)


def _note(row: Row) -> bool:
    return "note" in row.cell.factors


def _of(rows: Sequence[Row], way: str, threads: object = None) -> list[Row]:
    """The whole rows of a way within the cores, or the one with so many threads."""
    return [
        row
        for row in rows
        if _at(row, "way") == way
        and row.seconds.value is not None
        and (not _note(row) if threads is None else _at(row, "threads") == threads)
    ]


def _pace(name: str, rows: Sequence[Row]) -> Iterator[str]:
    """What sets the pace with the most threads that have cores."""
    streams = _of(rows, STREAM)
    if not streams:
        return
    best = max(streams, key=lambda row: row.cell.workers)
    count = f"{best.cell.workers:g} thread{'s' if best.cell.workers > 1 else ''}"
    took = best.seconds.value or 0.0
    moved = [row.seconds.value for row in _of(rows, MOVE, _at(best, "threads")) if row.seconds.value]
    share = moved[0] / took if moved and took else None
    told = "" if share is None else f"; reading and writing alone take {100 * share:.0f} % of its time"
    gain, efficiency = (best.speedup.value if best.speedup else None), best.efficiency.value
    if best.cell.is_baseline or gain is None or efficiency is None:
        yield f"{name}: {count}: {seconds(took)}, {best.extra.get('read_rate', 0):.2f} GB/s{told}"
        return
    start = f"{name}: {count} are {gain:.2f} times as fast as {streams[0].cell.workers:g}"
    if efficiency >= SCALES:
        yield f"{start}: it scales with threads{told}"
    elif share is not None and share >= MOVES:
        yield f"{start}: memory and the disk set the pace, not the processor{told}"
    else:
        yield f"{start}: neither cores nor the disk alone set the pace{told}"
    first, last = streams[0].extra.get("work_cpu"), best.extra.get("work_cpu")
    if first and last and last > (1 + HINDERS) * first:
        yield (
            f"{name}: the same work took {100 * (last / first - 1):.0f} % more processor time with {count}: they wait "
            "for memory, or share cores with others"
        )


def _memory(name: str, rows: Sequence[Row], idle: Sequence[Row]) -> Iterator[str]:
    """Streaming against holding everything, in time and in memory, at the most threads that have cores."""
    streams = _of(rows, STREAM)
    if not streams:
        return
    ours = max(streams, key=lambda row: row.cell.workers)
    over, whole = ours.extra.get("memory_over_idle"), ours.memory.value
    if over is not None and whole is not None and idle:
        yield (
            f"{name}: streaming takes {over / 1e6:.1f} MB beyond a process that does nothing, and {whole / 1e6:.0f} MB "
            "in all"
        )
    for theirs in _of(rows, BATCH, _at(ours, "threads")):
        took, held = theirs.seconds.value, theirs.memory.value
        if took and held and whole and ours.seconds.value:
            yield (
                f"{name}: streaming takes {ours.seconds.value / took:.2f} of the time and {100 * whole / held:.1f} % "
                f"of the memory of batch mode ({held / 1e6:.0f} MB)"
            )
    digests = {digest for row in (*streams, *_of(rows, BATCH)) for digest in row.digests}
    if len(digests) > 1:
        yield f"{name}: outputs differ between readings, which must not be; please report it"

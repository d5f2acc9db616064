"""How long a plan would take, from a few of its own chunks."""

from __future__ import annotations

from tokenmill.clock import Clock
from tokenmill.quant.chunks import Chunk, Part
from tokenmill.quant.files import Files
from tokenmill.quant.quantize import Plan
from tokenmill.quant.work import Buffers, encode

#: Chunks of each kind that are read and encoded.
SAMPLED = 8


def estimate(plan: Plan, clock: Clock) -> float:
    """Seconds to read and encode everything with the threads of the plan, if they don't hinder each other.

    What writing takes beyond that is for the disk to say, and not in it.
    """
    kinds: dict[tuple[str, str], list[Part]] = {}
    for part in plan.chunks.parts:
        kinds.setdefault((part.placed.encoding, part.placed.tensor.element), []).append(part)
    files = Files(plan.weights.files, ())
    try:
        buffers = Buffers(plan.chunks)
        alone = sum(
            _pace(plan, max(parts, key=_size), files, buffers, clock) * sum(map(_size, parts))
            for parts in kinds.values()
        )
    finally:
        files.close()
    return alone / plan.threads


def _pace(plan: Plan, part: Part, files: Files, buffers: Buffers, clock: Clock) -> float:
    """Seconds for a byte of input, in the chunks at the beginning of `part`."""
    _do(plan.chunks[part.first], files, buffers)  # which may wait for a kernel to be compiled
    start, read = clock.now(), 0
    for number in range(part.first, part.first + min(part.chunks, SAMPLED)):
        read += _do(plan.chunks[number], files, buffers)
    return (clock.now() - start) / read


def _do(chunk: Chunk, files: Files, buffers: Buffers) -> int:
    content = buffers.input(chunk)
    files.read(chunk, content, buffers.spare(chunk))
    encode(chunk, content, buffers.outputs(chunk), buffers, files)
    return chunk.input_size


def _size(part: Part) -> int:
    return part.rows * part.row_size

"""The plain way, to compare with: reads everything, encodes it in parallel, and writes everything.

It needs memory for all weights in both forms, and no step can hide behind another. What an interrupted run left is
gone on with all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from tokenmill.quant.chunks import Chunks
from tokenmill.quant.crew import Crew
from tokenmill.quant.encoding import Bytes
from tokenmill.quant.work import Buffers, Work, cut

#: Each of reading, encoding and writing counts for a third of the way.
STEPS = 3
#: Bytes at whose multiples each tensor begins in memory; kernels take aligned elements only.
ALIGNMENT = 64


class _Memory:
    """All inputs and all outputs, chunk by chunk."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self._begins: dict[int, tuple[int, int]] = {}
        read = written = 0
        for part in chunks.parts:
            self._begins[part.first] = (read, written)
            read = _aligned(read + part.rows * part.row_size)
            written = _aligned(written + part.rows * sum(part.row_sizes))
        self._input = np.empty(read, np.uint8)
        self._output = np.empty(written, np.uint8)

    def input(self, number: int) -> Bytes:
        chunk = self._chunks[number]
        begin = self._begins[chunk.part.first][0] + chunk.begin * chunk.part.row_size
        return self._input[begin : begin + chunk.input_size]

    def outputs(self, number: int) -> tuple[Bytes, ...]:
        chunk = self._chunks[number]
        begin = self._begins[chunk.part.first][1] + chunk.begin * sum(chunk.part.row_sizes)
        return cut(self._output[begin:], chunk.output_sizes)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def batch(work: Work, crew: Crew) -> None:
    """Does every chunk that isn't done yet, in three passes."""
    memory = _Memory(work.chunks)
    count, tools = work.chunks.count, partial(Buffers, work.chunks)

    def read(number: int, buffers: Buffers) -> None:
        work.read(number, memory.input(number), buffers)

    def encode(number: int, buffers: Buffers) -> None:
        work.encode(number, memory.input(number), memory.outputs(number), buffers)

    def write(number: int, _: Buffers) -> None:
        work.write(number, memory.outputs(number))

    for step in (read, encode):
        crew.run(count, partial(_do, work, step), tools)
    crew.run(count, partial(_do, work, write), tools, work.make_safe)


def _do(work: Work, step: Callable[[int, Buffers], None], number: int, buffers: Buffers) -> float:
    if work.is_done(number):
        return 0
    step(number, buffers)
    return work.chunks[number].input_size / STEPS

"""The fast way in little memory: each thread reads, encodes and writes one chunk after the other."""

from __future__ import annotations

from functools import partial

from tokenmill.quant.crew import Crew
from tokenmill.quant.work import Buffers, Work


def stream(work: Work, crew: Crew) -> None:
    """Does every chunk that isn't done yet."""
    crew.run(work.chunks.count, partial(_do, work), partial(Buffers, work.chunks), work.make_safe)


def _do(work: Work, number: int, buffers: Buffers) -> float:
    if work.is_done(number):
        return 0
    chunk = work.chunks[number]
    content, outputs = buffers.input(chunk), buffers.outputs(chunk)
    work.read(number, content, buffers)
    work.encode(number, content, outputs, buffers)
    work.write(number, outputs)
    return chunk.input_size

"""How far what was written is from what was read, tensor by tensor.

A chunk is compared right after it is encoded, while it is in the cache, a small piece at a time; five sums are all
that is kept of it. They are added up in the order of the chunks, so the figures don't depend on the threads.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from tokenmill.quant.chunks import Chunk, Chunks
from tokenmill.quant.encoding import Bits, Bytes
from tokenmill.quant.floats import widen

#: Numbers kept of a chunk: the squared error, the squares of what was read and of what was written, the product of
#: the two, and the largest error.
FIGURES = 5
#: Weights compared at a time.
_PIECE = 1 << 15


class Quality(Struct, frozen=True, kw_only=True):
    """One tensor: the root of the mean squared error, the signal to that noise in decibels, cosine, largest error.

    `sqnr` is None where nothing was lost or everything read is zero; `cosine` where all of one side is zero.
    """

    name: str
    encoding: str
    count: int
    rmse: float
    sqnr: float | None
    cosine: float | None
    largest: float


def compare(chunk: Chunk, bits: Bits, outputs: tuple[Bytes, ...]) -> NDArray[np.float64]:
    """The figures of one chunk."""
    part = chunk.part
    sums = np.zeros(FIGURES)
    if part.encoding is None or part.encoding.name == part.placed.tensor.element:
        return sums
    step = max(1, _PIECE // part.columns)
    for begin in range(0, chunk.rows, step):
        end = min(begin + step, chunk.rows)
        pieces = tuple(out[begin * size : end * size] for out, size in zip(outputs, part.row_sizes, strict=True))
        was = widen(bits[begin:end], part.placed.tensor.element).astype(np.float64)
        now = part.encoding.decode(pieces, end - begin, part.columns).astype(np.float64)
        error = (now - was).reshape(-1)
        was, now = was.reshape(-1), now.reshape(-1)
        sums[:4] += (_dot(error, error), _dot(was, was), _dot(now, now), _dot(was, now))
        sums[4] = max(sums[4], np.abs(error).max())
    return sums


def _dot(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """The sum of products, without the threads that a BLAS would start beside ours."""
    return float(np.einsum("i,i->", left, right))


def sum_up(chunks: Chunks, figures: NDArray[np.float64]) -> list[Quality]:
    """The quality of each tensor that was encoded; those kept as they were have none."""
    found = []
    for part in chunks.parts:
        placed = part.placed
        if part.encoding is None or part.encoding.name == placed.tensor.element:
            continue
        of_part = figures[part.first : part.first + part.chunks]
        error, was, now, product = (math.fsum(column) for column in of_part[:, :4].T)
        found.append(
            Quality(
                name=placed.name,
                encoding=placed.encoding,
                count=placed.tensor.count,
                rmse=math.sqrt(error / placed.tensor.count),
                sqnr=10 * math.log10(was / error) if error and was else None,
                cosine=min(1.0, product / math.sqrt(was * now)) if was and now else None,
                largest=float(of_part[:, 4].max()),
            )
        )
    return found

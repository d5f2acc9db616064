"""Reads rows of the output from where they lie in the source, with positioned reads into a buffer of the caller.

A descriptor has no position that matters here, so all threads share it. No row is read twice and nothing is mapped:
mapped input would count as memory of the process.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from tokenmill.quant.chunks import Chunk
from tokenmill.quant.layout import Placed
from tokenmill.quant.tensor import ELEMENTS

#: Buffers that one read takes at most; the kernel's own limit.
BUFFERS = 1024

Buffer = NDArray[np.uint8]


class Shrunk(Exception):
    """The file ended before the bytes that its header promised."""


def read_rows(file: int, chunk: Chunk, into: Buffer, spare: Buffer) -> None:
    """Fills `into`, which is as large as the chunk's input; `spare` is as large where the tensor is transposed.

    Raises:
        OSError: the file can't be read.
        Shrunk: it is shorter than when its header was read.
    """
    match chunk.part.placed.arrangement.kind:
        case "heads":
            _read_heads(file, chunk, into.data)
        case "transposed":
            _read_transposed(file, chunk, into, spare)
        case _:
            _fill(file, [into.data], chunk.part.placed.tensor.offset + chunk.begin * chunk.part.row_size)


def source_place(placed: Placed, row: int, column: int) -> tuple[int, int]:
    """Row and column in the source tensor of an element of the output."""
    arrangement = placed.arrangement
    if arrangement.kind == "transposed":
        return column, row
    if arrangement.kind == "heads":
        return _source_row(row, placed.rows // arrangement.heads), column
    return row, column


def _source_row(row: int, block: int) -> int:
    head, at = divmod(row, block)
    return head * block + at % 2 * (block // 2) + at // 2


def _read_heads(file: int, chunk: Chunk, into: memoryview) -> None:
    """Rows of one half of a block follow each other in the source: each half is one read, into every other row."""
    placed, size = chunk.part.placed, chunk.part.row_size
    block = placed.rows // placed.arrangement.heads
    begin = chunk.begin
    while begin < chunk.end:
        end = min(chunk.end, (begin // block + 1) * block)
        for start in range(begin, min(begin + 2, end)):
            views = [into[(row - chunk.begin) * size : (row - chunk.begin + 1) * size] for row in range(start, end, 2)]
            _fill(file, views, placed.tensor.offset + _source_row(start, block) * size)
        begin = end


def _read_transposed(file: int, chunk: Chunk, into: Buffer, spare: Buffer) -> None:
    placed = chunk.part.placed
    width = ELEMENTS[placed.tensor.element]
    piece, row_size = chunk.rows * width, placed.rows * width
    view, offset = spare.data, placed.tensor.offset + chunk.begin * width
    for row in range(placed.columns):
        _fill(file, [view[row * piece : (row + 1) * piece]], offset + row * row_size)
    word = np.uint16 if width == 2 else np.uint32
    into.view(word).reshape(chunk.rows, placed.columns)[:] = spare.view(word).reshape(placed.columns, chunk.rows).T


def _fill(file: int, views: list[memoryview], offset: int) -> None:
    """Fills all of `views`, one after the other, with what stands at `offset` and behind."""
    for first in range(0, len(views), BUFFERS):
        rest = views[first : first + BUFFERS]
        left = sum(len(view) for view in rest)
        while left:
            got = os.preadv(file, rest, offset)
            if not got:
                raise Shrunk
            left, offset = left - got, offset + got
            rest = _behind(rest, got) if left else []


def _behind(views: list[memoryview], size: int) -> list[memoryview]:
    """What is left of `views` once their first `size` bytes are filled."""
    at = 0
    while size >= len(views[at]):
        size -= len(views[at])
        at += 1
    return [views[at][size:], *views[at + 1 :]]

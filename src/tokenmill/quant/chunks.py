"""All tensors of a layout as one list of chunks: whole rows, about a megabyte of input each.

Threads take chunks from that list, so one huge embedding doesn't keep one thread busy while the others are done. A
chunk is known by its number alone; the list itself is never built.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator

from msgspec import Struct

from tokenmill.quant.encoding import Encoding
from tokenmill.quant.layout import COPY, Layout, Placed
from tokenmill.quant.tensor import ELEMENTS

#: Bytes of input in a chunk at most, and of input, output and what transposing takes together.
INPUT_LIMIT = 1 << 20
WHOLE_LIMIT = 2 << 20
#: Of a float conversion: NumPy makes several arrays as large as its output on the way.
FLOAT_LIMIT = 1 << 18


class Part(Struct, frozen=True, kw_only=True):
    """One tensor of the output as chunks see it: rows of so many columns, `height` rows a chunk.

    The rows are those of the tensor, or pieces of them where a row is larger than a chunk and its encoding doesn't
    mind. `encoding` is None for bytes that are copied and no floats, which are then rows of one byte. `row_size` is
    that of the input, `row_sizes` those of the outputs; `first` is the number of its first chunk.
    """

    placed: Placed
    encoding: Encoding | None
    rows: int
    columns: int
    row_size: int
    row_sizes: tuple[int, ...]
    height: int
    first: int

    @property
    def chunks(self) -> int:
        return -(-self.rows // self.height)


class Chunk(Struct, frozen=True, kw_only=True):
    """Rows `begin` to `end` of a part."""

    part: Part
    begin: int
    end: int

    @property
    def rows(self) -> int:
        return self.end - self.begin

    @property
    def input_size(self) -> int:
        return self.rows * self.part.row_size

    @property
    def output_sizes(self) -> tuple[int, ...]:
        return tuple(self.rows * size for size in self.part.row_sizes)


class Chunks:
    """The chunks of a layout, numbered from 0 in the order of the output."""

    def __init__(self, layout: Layout, encoding: Callable[[str], Encoding]) -> None:
        self.parts: list[Part] = []
        self.count = 0
        for placed in layout.placed:
            name = _encoding_of(placed)
            part = _part(placed, None if name == COPY else encoding(name), self.count)
            self.parts.append(part)
            self.count += part.chunks
        self._firsts = [part.first for part in self.parts]

    def __getitem__(self, number: int) -> Chunk:
        assert 0 <= number < self.count, f"there is no chunk {number}"
        part = self.parts[bisect_right(self._firsts, number) - 1]
        begin = (number - part.first) * part.height
        return Chunk(part=part, begin=begin, end=min(begin + part.height, part.rows))

    def __iter__(self) -> Iterator[Chunk]:
        return (self[number] for number in range(self.count))

    @property
    def input_size(self) -> int:
        """Bytes that are read in all."""
        return sum(part.rows * part.row_size for part in self.parts)

    @property
    def output_size(self) -> int:
        """Bytes that are written in all, headers not counted."""
        return sum(part.rows * sum(part.row_sizes) for part in self.parts)

    @property
    def buffer_sizes(self) -> tuple[int, int, int]:
        """Bytes of the largest input, of the largest outputs together, and of what transposing takes at most."""
        most_in = most_out = most_spare = 0
        for part in self.parts:
            rows = min(part.height, part.rows)
            most_in = max(most_in, rows * part.row_size)
            most_out = max(most_out, rows * sum(part.row_sizes))
            if part.placed.arrangement.kind == "transposed":
                most_spare = max(most_spare, rows * part.row_size)
        return most_in, most_out, most_spare


def _encoding_of(placed: Placed) -> str:
    """Floats that are copied are looked at on the way, so they have an encoding: that of the type they are."""
    element = placed.tensor.element
    return element if placed.encoding == COPY and element in ELEMENTS else placed.encoding


def _part(placed: Placed, encoding: Encoding | None, first: int) -> Part:
    plain = placed.arrangement.kind == "plain"
    assert len(placed.places) == (1 if encoding is None else len(encoding.outputs)), (
        f"{placed.name}: places are missing"
    )
    assert encoding is None or placed.rows * placed.columns == placed.tensor.count, f"{placed.name}: a wrong shape"
    rows, columns, row_size = placed.tensor.size, 1, 1
    row_sizes: tuple[int, ...] = (1,)
    if encoding is None:
        assert plain, f"{placed.name}: a copy can't be arranged"
    else:
        columns, width = placed.columns, ELEMENTS[placed.tensor.element]
        if plain:
            columns = _cut(encoding, columns, INPUT_LIMIT // width)
        rows = placed.rows * placed.columns // columns
        row_size, row_sizes = columns * width, encoding.row_sizes(columns)
    limit = FLOAT_LIMIT if encoding is not None and encoding.group == 1 else INPUT_LIMIT
    whole = row_size * (1 if plain else 2) + sum(row_sizes)
    return Part(
        placed=placed,
        encoding=encoding,
        rows=rows,
        columns=columns,
        row_size=row_size,
        row_sizes=row_sizes,
        height=max(1, min(limit // row_size, WHOLE_LIMIT // whole)),
        first=first,
    )


def _cut(encoding: Encoding, columns: int, limit: int) -> int:
    """Columns that a row is cut into, all of them where it is small enough or has something for the row as a whole."""
    groups = columns // encoding.group
    of_group = encoding.row_sizes(encoding.group)
    if columns <= limit or encoding.row_sizes(columns) != tuple(groups * size for size in of_group):
        return columns
    most = max(1, limit // encoding.group)
    below = [divisor for divisor in range(1, math.isqrt(groups) + 1) if groups % divisor == 0]
    return encoding.group * max(each for small in below for each in (small, groups // small) if each <= most)

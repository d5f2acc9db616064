"""What is done to a chunk, step by step: read, encoded, written, and noted as done."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tokenmill.model.files import BadModel
from tokenmill.quant.chunks import Chunk, Chunks
from tokenmill.quant.encoding import Bits, Bytes
from tokenmill.quant.files import Files
from tokenmill.quant.journal import Journal
from tokenmill.quant.quality import compare
from tokenmill.quant.rows import source_place
from tokenmill.quant.tensor import ELEMENTS


class Buffers:
    """The memory of one thread, made once; views of it are as large as a chunk needs."""

    def __init__(self, chunks: Chunks) -> None:
        most_in, most_out, most_spare = chunks.buffer_sizes
        self._input = np.empty(most_in, np.uint8)
        self._output = np.empty(most_out, np.uint8)
        self._spare = np.empty(most_spare, np.uint8)
        self._scratch: Any = None
        self._scratch_for: tuple[str, int] | None = None

    def input(self, chunk: Chunk) -> Bytes:
        return self._input[: chunk.input_size]

    def spare(self, chunk: Chunk) -> Bytes:
        """As large as the input where it has to be transposed."""
        return self._spare[: chunk.input_size]

    def outputs(self, chunk: Chunk) -> tuple[Bytes, ...]:
        return cut(self._output, chunk.output_sizes)

    def scratch(self, chunk: Chunk) -> Any:
        """What the encoding of the chunk's tensor works in; chunks of one tensor mostly follow each other."""
        part = chunk.part
        assert part.encoding is not None, "a copy needs no scratch"
        if self._scratch_for != (part.encoding.name, part.columns):
            self._scratch = part.encoding.scratch(part.columns)
            self._scratch_for = (part.encoding.name, part.columns)
        return self._scratch


def cut(memory: Bytes, sizes: tuple[int, ...]) -> tuple[Bytes, ...]:
    """Views of so many bytes, one behind the other."""
    ends = itertools.accumulate(sizes)
    return tuple(memory[end - size : end] for size, end in zip(sizes, ends, strict=True))


class Work:
    """The chunks of one output; with `report` each is compared with what it was made from."""

    def __init__(self, chunks: Chunks, files: Files, journal: Journal, *, report: bool) -> None:
        self.chunks = chunks
        self._files = files
        self._journal = journal
        self._report = report

    def is_done(self, number: int) -> bool:
        return bool(self._journal.done[number])

    def read(self, number: int, content: Bytes, buffers: Buffers) -> None:
        """Fills `content` with the input of a chunk."""
        chunk = self.chunks[number]
        self._files.read(chunk, content, buffers.spare(chunk))

    def encode(self, number: int, content: Bytes, outputs: tuple[Bytes, ...], buffers: Buffers) -> None:
        """Makes the outputs of a chunk from its input; raises `BadModel` for a weight that is no number."""
        chunk = self.chunks[number]
        encode(chunk, content, outputs, buffers, self._files)
        if self._report and chunk.part.encoding is not None:
            self._journal.figures[number] = compare(chunk, _bits(chunk, content), outputs)

    def write(self, number: int, outputs: tuple[Bytes, ...]) -> None:
        """Writes a chunk and notes it as done."""
        self._files.write(self.chunks[number], outputs)
        self._journal.done[number] = 1

    def make_safe(self) -> None:
        """Brings to disk what is written, and only then the journal that says so."""
        done = self._journal.done.copy()
        self._files.sync()
        self._journal.mark(done)


def encode(chunk: Chunk, content: Bytes, outputs: tuple[Bytes, ...], buffers: Buffers, files: Files) -> None:
    """Makes the outputs of a chunk from its input; raises `BadModel` for a weight that is no number."""
    part = chunk.part
    if part.encoding is None:
        outputs[0][:] = content
        return
    placed, tensor = part.placed, part.placed.tensor
    place = part.encoding.encode(_bits(chunk, content), tensor.element, outputs, buffers.scratch(chunk))
    if place < 0:
        return
    row, column = source_place(placed, *divmod(chunk.begin * part.columns + place, placed.columns))
    raise BadModel(
        f"{files.inputs[tensor.file]}: tensor {tensor.name!r} has a weight in row {row}, column {column} that is NaN, "
        f"infinite or too large for {part.encoding.name}; download the model again, or repair it"
    )


def _bits(chunk: Chunk, content: Bytes) -> Bits:
    """The elements of a chunk in the form that encodings take."""
    shape = (chunk.rows, chunk.part.columns)
    if ELEMENTS[chunk.part.placed.tensor.element] == 2:
        return content.view(np.uint16).reshape(shape)
    return content.view(np.uint32).reshape(shape)

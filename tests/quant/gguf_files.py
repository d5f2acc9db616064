"""Carries out the plan of a GGUF file the slow and obvious way, and reads the result with gguf-py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from tokenmill.quant.blocks import BlockEncoding
from tokenmill.quant.encodings import encoding
from tokenmill.quant.gguf.reader import is_gguf, read_gguf
from tokenmill.quant.gguf.target import plan
from tokenmill.quant.layout import COPY, Layout, Options, Placed
from tokenmill.quant.source import read_weights
from tokenmill.quant.tensor import ELEMENTS, Weights

#: Weights of a tensor from which on compiling a kernel costs less than doing without.
COMPILED_FROM = 1 << 16


def make(model: Path, to: str, out: Path, *keep: tuple[str, str]) -> Layout:
    """Writes the GGUF file of `model` at `out`, and returns the plan."""
    weights = read_gguf(model).weights if is_gguf(model) else read_weights(model)
    layout = plan(weights, model, Options(to=to, keep=keep))
    carry_out(layout, weights, out)
    return layout


def carry_out(layout: Layout, weights: Weights, out: Path) -> None:
    (file,) = layout.files
    content = bytearray(file.size)
    content[: len(file.header)] = file.header
    for literal in layout.literals:
        content[literal.place.offset : literal.place.offset + len(literal.content)] = literal.content
    for placed in layout.placed:
        with weights.files[placed.tensor.file].open("rb") as source:
            source.seek(placed.tensor.offset)
            stored = source.read(placed.tensor.size)
        written = stored if placed.encoding == COPY else encoded(placed, stored)
        (place,) = placed.places
        content[place.offset : place.offset + len(written)] = written
    out.write_bytes(content)


def encoded(placed: Placed, stored: bytes) -> bytes:
    """The bytes of one tensor in the output."""
    bits: NDArray[Any] = np.frombuffer(stored, np.uint16 if ELEMENTS[placed.tensor.element] == 2 else np.uint32)
    if placed.arrangement.kind == "transposed":
        bits = bits.reshape(placed.columns, placed.rows).T
    else:
        bits = bits.reshape(placed.rows, placed.columns)
    if placed.arrangement.kind == "heads":
        heads = placed.arrangement.heads
        bits = bits.reshape(heads, 2, placed.rows // heads // 2, placed.columns).swapaxes(1, 2)
        bits = bits.reshape(placed.rows, placed.columns)
    found = encoding(placed.encoding)
    (size,) = found.row_sizes(placed.columns)
    output = np.zeros((placed.rows, size), np.uint8)
    bits, element = np.ascontiguousarray(bits), placed.tensor.element
    if isinstance(found, BlockEncoding) and bits.size < COMPILED_FROM:
        assert found.encode_slowly(bits.reshape(-1), element, output.reshape(-1)) == -1
    else:
        assert found.encode(bits, element, (output,), found.scratch(placed.columns)) == -1
    return output.tobytes()


class Read:
    """A GGUF file as gguf-py reads it: keys with their types, tensors with their types, shapes and bytes."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self.keys = {
            key: ([kind.name for kind in field.types], field.contents())
            for key, field in reader.fields.items()
            if not key.startswith("GGUF.")
        }
        self.tensors = {
            tensor.name: (tensor.tensor_type.name, tuple(int(size) for size in reversed(tensor.shape)))
            for tensor in reader.tensors
        }
        self.data = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
        self.types = {name: kind for name, (kind, _) in self.tensors.items()}

    def floats(self, name: str) -> NDArray[np.float32]:
        """The weights that an engine sees."""
        kind = gguf.GGMLQuantizationType[self.types[name]]
        return gguf.dequantize(self.data[name], kind).reshape(self.tensors[name][1])


def digested(field: tuple[list[str], Any]) -> list[Any]:
    """A key's types and value for a golden file; a long list as its length and a digest."""
    kinds, content = field
    if isinstance(content, list) and len(content) > 16:
        content = [len(content), hashlib.sha256(json.dumps(content).encode()).hexdigest()]
    return [kinds, content]

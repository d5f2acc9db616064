"""Where weights lie: tensors in files, in whatever format the files are.

A reader of a format makes a `Weights` of a model; everything after it sees rows of elements at offsets of files.
"""

from __future__ import annotations

import math
from pathlib import Path

from msgspec import Struct

#: Bytes of one element of the types that can be quantized, named as safetensors names them.
ELEMENTS = {"F32": 4, "F16": 2, "BF16": 2}


class Tensor(Struct, frozen=True, kw_only=True):
    """One tensor as it lies in a file, row after row without gaps.

    `element`: a type of `ELEMENTS`, or the name of another type, which only a check may see. `shape`: the slowest
    dimension first, as in NumPy. `file`: place of its file in `Weights.files`. `offset` and `size` in bytes, `offset`
    from the beginning of the file.
    """

    name: str
    element: str
    shape: tuple[int, ...]
    file: int
    offset: int
    size: int

    @property
    def columns(self) -> int:
        """Elements of a row, the fastest dimension; 1 for a scalar."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def count(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)


class Weights(Struct, frozen=True, kw_only=True):
    """A model's weights: the files and every tensor in them, in the order in which they lie."""

    files: tuple[Path, ...]
    tensors: tuple[Tensor, ...]

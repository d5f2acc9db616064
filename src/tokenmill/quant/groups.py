"""Encodings of compressed-tensors folders: integers packed into words, and their scales in a tensor of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenmill.quant.blocks import AT_ONCE, worst
from tokenmill.quant.encoding import Bits, Bytes
from tokenmill.quant.floats import first_unusable, widen
from tokenmill.quant.kernels import kernel
from tokenmill.quant.reference_groups import LANES, decode_groups, encode_groups


class GroupEncoding:
    """Symmetric integers of 4 or 8 `bits` with a BF16 scale for every `span` weights of a row, or for a whole row."""

    outputs: tuple[str, ...] = ("weight_packed", "weight_scale")

    def __init__(self, name: str, bits: int, span: int | None, mse: bool = False) -> None:
        self.name = name
        self.bits = bits
        self.span = span
        self.mse = mse
        self.group = span or 1

    def row_sizes(self, columns: int) -> tuple[int, ...]:
        words = -(-columns * self.bits // 32)
        return (words * 4, columns // self._span(columns) * 2)

    def scratch(self, columns: int) -> Any:  # noqa: ARG002 - others need memory for a row
        return None

    def encode(self, bits: Bits, element: str, outputs: tuple[Bytes, ...], scratch: Any) -> int:  # noqa: ARG002
        if not bits.size:
            return -1
        span = self._span(bits.shape[-1])
        packed, scales = (output.reshape(-1) for output in outputs)
        flat = bits.reshape(-1)
        name = f"int{self.bits}_mse" if self.mse else f"int{self.bits}"
        run = kernel("integers", name, element, "bbi") if span >= LANES else None
        if run is None:
            group = self.encode_slowly(flat.reshape(-1, span), element, packed, scales)
        else:
            group = run(flat.view(np.int16) if element == "F16" else flat, packed, scales, span)
        if group < 0:
            return -1
        first = int(group) * span
        return first + worst(widen(flat[first : first + span], element))

    def encode_slowly(self, groups: Bits, element: str, packed: Bytes, scales: Bytes) -> int:
        """The work of the kernel by the reference: -1, or the first group with a weight that is no number."""
        columns = int(groups.shape[1])
        step = max(1, AT_ONCE // columns)
        words, pairs = packed.reshape(len(groups), -1), scales.reshape(-1, 2)
        with np.errstate(all="ignore"):
            for first in range(0, len(groups), step):
                some = groups[first : first + step]
                bad = first_unusable(some, element)
                if bad >= 0:
                    return first + bad // columns
                part = slice(first, first + step)
                words[part], pairs[part] = encode_groups(widen(some, element), self.bits, element == "BF16", self.mse)
        return -1

    def decode(self, outputs: tuple[Bytes, ...], rows: int, columns: int) -> NDArray[np.float32]:
        span = self._span(columns)
        groups = rows * (columns // span)
        words = np.ascontiguousarray(outputs[0]).reshape(groups, -1)
        scales = np.ascontiguousarray(outputs[1]).reshape(-1).view(np.uint16)
        numbers = np.empty((groups, span), np.float32)
        step = max(1, AT_ONCE // span)
        for first in range(0, groups, step):
            part = slice(first, first + step)
            numbers[part] = decode_groups(words[part], scales[part], self.bits, span)
        return numbers.reshape(rows, columns)

    def _span(self, columns: int) -> int:
        return self.span or columns

"""Weights that stay numbers: copied as they are, or rounded once to another float type.

Rounding is to nearest, ties to even, as torch and the converters of engines round. NumPy is enough for copies, which
are bound by memory; the roundings that models need have kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenmill.quant.encoding import Bits, Bytes
from tokenmill.quant.kernels import kernel
from tokenmill.quant.tensor import ELEMENTS

#: Bits of the exponent of each type: all of them set means infinite or NaN.
EXPONENT = {"F32": 0x7F80_0000, "F16": 0x7C00, "BF16": 0x7F80}

#: Roundings, from and to, that have kernels.
COMPILED = {("BF16", "F16"), ("F32", "F16"), ("F32", "BF16")}


class FloatEncoding:
    """Each weight as a float of one type; `name` is the type, as in `ELEMENTS`."""

    group: int = 1
    outputs: tuple[str, ...] = ("",)

    def __init__(self, name: str) -> None:
        self.name = name

    def row_sizes(self, columns: int) -> tuple[int, ...]:
        return (columns * ELEMENTS[self.name],)

    def scratch(self, columns: int) -> Any:  # noqa: ARG002 - others need memory for a row
        return None

    def encode(self, bits: Bits, element: str, outputs: tuple[Bytes, ...], scratch: Any) -> int:  # noqa: ARG002
        name = (element, self.name)
        run = kernel("floats", "_to_".join(name).lower(), element, "b") if name in COMPILED else None
        if run is not None:
            return int(run(bits.reshape(-1), outputs[0].reshape(-1)))
        return self.encode_slowly(bits, element, outputs[0])

    def encode_slowly(self, bits: Bits, element: str, out: Bytes) -> int:
        """The work by NumPy, which is as fast where nothing is rounded."""
        rounded = bits if element == self.name else narrow(widen(bits, element), self.name)
        place = first_unusable(rounded, self.name)
        if place < 0:
            out.reshape(-1)[:] = np.ascontiguousarray(rounded).reshape(-1).view(np.uint8)
        return place

    def decode(self, outputs: tuple[Bytes, ...], rows: int, columns: int) -> NDArray[np.float32]:
        flat = np.ascontiguousarray(outputs[0]).reshape(-1)
        bits = flat.view(np.uint32) if self.name == "F32" else flat.view(np.uint16)
        return widen(bits, self.name).reshape(rows, columns)


def widen(bits: Bits, element: str) -> NDArray[np.float32]:
    """The numbers that `bits` stand for; exact, as F32 holds every F16 and BF16."""
    bits = bits if bits.flags.c_contiguous else bits.copy()
    if element == "F32":
        return bits.view(np.float32)
    if element == "F16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def narrow(numbers: NDArray[np.float32], element: str) -> Bits:
    """The bits of the nearest number of a type, ties to even; what is too large becomes infinite."""
    if element == "F32":
        return numbers.view(np.uint32)
    if element == "F16":
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return numbers.astype(np.float16).view(np.uint16)
    bits = numbers.view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + np.uint32(0x7FFF) + even) >> np.uint32(16)).astype(np.uint16)
    rounded[np.isnan(numbers)] = 0x7FC0
    return rounded


def first_unusable(bits: Bits, element: str) -> int:
    """Where the first NaN or infinity stands, counted row by row; -1 without one."""
    exponent = bits.dtype.type(EXPONENT[element])
    bad = (bits & exponent) == exponent
    return int(bad.argmax()) if bad.any() else -1

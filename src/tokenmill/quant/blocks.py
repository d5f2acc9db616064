"""Encodings of GGUF files: weights as blocks of fixed size, each with its scales, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenmill.quant.encoding import Bits, Bytes
from tokenmill.quant.floats import widen
from tokenmill.quant.kernels import kernel

#: Weights that the reference takes at once: few enough to stay in the cache.
AT_ONCE = 1 << 16


class BlockEncoding:
    """Weights in blocks of `group`, each of `size` bytes, with an F16 at each of `scales`.

    `encode_blocks` and `decode_blocks` are the reference, on one block a row; the kernel is the function `kernel` of
    the module `module` of the kernels' package. Both leave blocks that can't be written with a scale that is no finite
    number, or say so.
    """

    outputs: tuple[str, ...] = ("",)

    def __init__(
        self,
        name: str,
        group: int,
        size: int,
        scales: tuple[int, ...],
        encode_blocks: Callable[[NDArray[np.float32]], Bytes],
        decode_blocks: Callable[[Bytes], NDArray[np.float32]],
        module: str,
    ) -> None:
        self.name = name
        self.group = group
        self.size = size
        self.scales = scales
        self.encode_blocks = encode_blocks
        self.decode_blocks = decode_blocks
        self.module = module

    def row_sizes(self, columns: int) -> tuple[int, ...]:
        return (columns // self.group * self.size,)

    def scratch(self, columns: int) -> Any:  # noqa: ARG002 - others need memory for a row
        return None

    def encode(self, bits: Bits, element: str, outputs: tuple[Bytes, ...], scratch: Any) -> int:  # noqa: ARG002
        flat = bits.reshape(-1)
        run = kernel(self.module, self.name.lower(), element, "b")
        if run is None:
            block = self.encode_slowly(flat, element, outputs[0].reshape(-1))
        else:
            block = run(flat.view(np.int16) if element == "F16" else flat, outputs[0].reshape(-1))
        if block < 0:
            return -1
        first = int(block) * self.group
        return first + worst(widen(flat[first : first + self.group], element))

    def encode_slowly(self, flat: Bits, element: str, out: Bytes) -> int:
        """The work of the kernel by the reference: -1, or the first block that can't be written."""
        step = max(1, AT_ONCE // self.group)
        blocks = out.reshape(-1, self.size)
        with np.errstate(all="ignore"):
            for first in range(0, len(blocks), step):
                weights = widen(flat[first * self.group : (first + step) * self.group], element)
                blocks[first : first + step] = self.encode_blocks(weights.reshape(-1, self.group))
                bad = self._unusable(blocks[first : first + step])
                if bad.any():
                    return first + int(bad.argmax())
        return -1

    def decode(self, outputs: tuple[Bytes, ...], rows: int, columns: int) -> NDArray[np.float32]:
        blocks = np.ascontiguousarray(outputs[0]).reshape(-1, self.size)
        numbers = np.empty((len(blocks), self.group), np.float32)
        step = max(1, AT_ONCE // self.group)
        for first in range(0, len(blocks), step):
            numbers[first : first + step] = self.decode_blocks(blocks[first : first + step])
        return numbers.reshape(rows, columns)

    def _unusable(self, blocks: Bytes) -> NDArray[np.bool_]:
        """Which blocks have a scale that is no finite number."""
        exponents = [blocks[:, at + 1] & 0x7C == 0x7C for at in self.scales]
        unusable: NDArray[np.bool_] = np.logical_or.reduce(exponents)
        return unusable


def worst(weights: NDArray[np.float32]) -> int:
    """Which weight keeps a group from being written: the first that is no number, else the largest."""
    bad = ~np.isfinite(weights)
    return int(bad.argmax() if bad.any() else np.abs(weights).argmax())

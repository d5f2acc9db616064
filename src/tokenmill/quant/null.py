"""An encoding that only moves bytes: what a measurement of an encoding's cost is held against."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenmill.quant.encoding import Bits, Bytes, Encoding


class NullEncoding:
    """Fills outputs of another encoding's size with copied bytes of the weights; the result is no model."""

    def __init__(self, like: Encoding) -> None:
        self.name = f"NULL:{like.name}"
        self.group = like.group
        self.outputs = like.outputs
        self._like = like

    def row_sizes(self, columns: int) -> tuple[int, ...]:
        return self._like.row_sizes(columns)

    def scratch(self, columns: int) -> Any:  # noqa: ARG002 - others need memory for a row
        return None

    def encode(self, bits: Bits, element: str, outputs: tuple[Bytes, ...], scratch: Any) -> int:  # noqa: ARG002
        source = bits.reshape(-1).view(np.uint8)
        for output in outputs:
            flat = output.reshape(-1)
            for start in range(0, flat.size, max(1, source.size)):
                part = flat[start : start + source.size]
                part[:] = source[: part.size]
        return -1

    def decode(self, outputs: tuple[Bytes, ...], rows: int, columns: int) -> NDArray[np.float32]:
        return self._like.decode(outputs, rows, columns)

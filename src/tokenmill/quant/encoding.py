"""What an encoding is: how rows of weights become bytes of a file format, and back.

An encoding is exact: the same weights give the same bytes as the tools of the format. Rows are independent, so any
number of threads can encode different rows of one tensor, each into its own part of the output.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Elements as the bits they are stored in: uint16 for BF16 and F16, uint32 for F32; shape [rows, columns].
Bits = NDArray[np.uint16] | NDArray[np.uint32]
#: Bytes of one of an encoding's outputs for some rows, without gaps between the rows.
Bytes = NDArray[np.uint8]


class Encoding(Protocol):
    """One way to store weights.

    `name`: as users and formats write it, such as `Q4_0`. `group`: weights that share a scale; rows must be a multiple
    of it long. `outputs`: what it writes, the parts of a name where an encoding is stored as several tensors
    (`weight_packed`, `weight_scale`), one empty name otherwise.
    """

    name: str
    group: int
    outputs: tuple[str, ...]

    def row_sizes(self, columns: int) -> tuple[int, ...]:
        """Bytes that a row of so many weights takes in each output; `columns` is a multiple of `group`."""
        ...

    def encode(self, bits: Bits, element: str, outputs: tuple[Bytes, ...], scratch: Any) -> int:
        """Writes the rows of `bits`, whose type is `element`, into `outputs`.

        Returns -1, or where the first weight stands, counted row by row, that is NaN, infinite or too large for the
        encoding; what is in `outputs` then means nothing. `scratch` is what `scratch()` gave: no two threads may share
        one.
        """
        ...

    def scratch(self, columns: int) -> Any:
        """Memory for one thread that encodes rows of so many weights; None if none is needed."""
        ...

    def decode(self, outputs: tuple[Bytes, ...], rows: int, columns: int) -> NDArray[np.float32]:
        """The weights that an engine sees, [rows, columns]."""
        ...

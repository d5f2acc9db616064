"""What the k-quants try: numbers that the reference and the kernels must have in common to the last bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Below this the largest weight of a block of Q6_K counts as zero.
TINY = np.float32(1e-15)
#: Added to a number it leaves the nearest integer, ties to even, in the low bits.
MAGIC = np.float32(12582912.0)


def _affine(highest: int, first: float, count: int) -> NDArray[np.float32]:
    """The largest code, and a bit less or more in steps of 0.1."""
    steps = np.arange(count, dtype=np.float32)
    return (np.float32(first) + np.float32(0.1) * steps) + np.float32(highest)


def _symmetric() -> NDArray[np.float32]:
    steps = np.array([step for step in range(-9, 10) if step], dtype=np.float32)
    return -(np.float32(32) + np.float32(0.1) * steps)


#: What the candidates for a scale of Q4_K and of Q5_K divide by the range of a block.
FOUR_BITS, FIVE_BITS = _affine(15, -1.0, 21), _affine(31, -0.5, 16)
#: What the candidates of Q6_K divide by the largest weight of a block.
SIX_BITS = _symmetric()

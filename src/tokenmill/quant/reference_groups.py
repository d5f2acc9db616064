"""The integers of compressed-tensors as obvious NumPy: symmetric, one BF16 scale for each group of weights.

The scale is half the range of the integers below the largest magnitude, `peak / 7.5` or `peak / 127.5`, rounded to
BF16; a scale of zero becomes the smallest step of BF16 at 1. A BF16 weight divided by its scale is rounded to BF16
before it becomes an integer, as torch computes in the type of the weights; F16 and F32 weights are divided in F32.
Integers are stored without a sign, from 0 on, the first in the lowest bits of each 32-bit word.

`mse` tries scales for which the largest weights are clipped and keeps the one with the smallest square error; of equal
ones the largest. The files are of the same format.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokenmill.quant.floats import narrow, widen

Numbers = NDArray[np.float32]

#: Parts of the largest magnitude that `mse` tries as the end of the range.
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8)

#: What a scale of zero becomes: torch.finfo(torch.bfloat16).eps, as BF16.
ZERO_SCALE = 0x3C00

#: Sums of square errors run over so many lanes, which are added in halves at the end.
LANES = 32


def encode_groups(weights: Numbers, bits: int, rounded: bool, mse: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """[groups, columns] to the bytes of words and of scales; `rounded` if quotients are rounded to BF16."""
    peak = np.abs(weights).max(axis=1)
    scales = _scales(peak, bits, 1.0)
    integers = _integers(weights, scales, bits, rounded)
    if mse:
        best = _square_error(weights, scales, integers)
        for clip in CLIPS[1:]:
            tried = _scales(peak, bits, clip)
            codes = _integers(weights, tried, bits, rounded)
            error = _square_error(weights, tried, codes)
            better = error < best
            best = np.where(better, error, best)
            scales = np.where(better, tried, scales)
            integers = np.where(better[:, None], codes, integers)
    return _packed(integers, bits), scales[:, None].view(np.uint8)


def decode_groups(packed: NDArray[np.uint8], scales: NDArray[np.uint16], bits: int, columns: int) -> Numbers:
    """The weights as BF16 numbers, which is what engines compute with; a code times its scale may be infinite."""
    codes = packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=2).reshape(len(packed), -1)
    integers = codes[:, :columns].astype(np.float32) - np.float32(1 << (bits - 1))
    with np.errstate(over="ignore"):  # of weights near the end of BF16, whose lowest code is beyond it
        numbers = integers * widen(scales, "BF16")[:, None]
    return widen(narrow(numbers, "BF16"), "BF16")


def _scales(peak: Numbers, bits: int, clip: float) -> NDArray[np.uint16]:
    scales = narrow(peak * np.float32(clip) / np.float32((2**bits - 1) / 2), "BF16").astype(np.uint16)
    scales[scales == 0] = ZERO_SCALE
    return scales


def _integers(weights: Numbers, scales: NDArray[np.uint16], bits: int, rounded: bool) -> Numbers:
    quotients = weights / widen(scales, "BF16")[:, None]
    if rounded:
        quotients = widen(narrow(quotients, "BF16"), "BF16")
    half = 1 << (bits - 1)
    integers: Numbers = np.rint(np.clip(quotients, np.float32(-half), np.float32(half - 1)))
    return integers


def _square_error(weights: Numbers, scales: NDArray[np.uint16], integers: Numbers) -> Numbers:
    """Sums in a fixed order, which kernels can keep: lane by lane, then the halves."""
    errors = integers * widen(scales, "BF16")[:, None] - weights
    squares = np.pad(errors * errors, ((0, 0), (0, -weights.shape[1] % LANES)))
    lanes = np.zeros((len(weights), LANES), np.float32)
    for start in range(0, squares.shape[1], LANES):
        lanes += squares[:, start : start + LANES]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def _packed(integers: Numbers, bits: int) -> NDArray[np.uint8]:
    codes = (integers + np.float32(1 << (bits - 1))).astype(np.uint8)
    if bits == 8:
        return np.pad(codes, ((0, 0), (0, -codes.shape[1] % 4)))
    return codes[:, ::2] | codes[:, 1::2] << np.uint8(4)

"""The encodings as obvious NumPy: what the kernels are held to, and what runs where there is no compiler.

The formats of ggml (`Q8_0`, `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`) store 32 weights as a block: one or two F16 (scale, and in
the last digit's 1 the smallest weight), the fifth bits of the codes where there are five, then the codes. Each step
is rounded to F32 alone, as in ggml compiled for any processor; a compiler that fuses a multiplication with an addition
makes files that differ in single codes. A scale whose inverse is infinite gets codes of 0, as ggml's conversions of
infinite numbers give on x86; its F16 is zero in any case. Weights that are no numbers, or too large, show in
F16 fields that are no finite numbers: nothing else is meant by such blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BLOCK = 32


def encode_q8_0(weights: Numbers) -> Bytes:
    """[blocks, 32] to [blocks, 34]: the largest magnitude becomes 127; halves round away from zero."""
    scale = np.abs(weights).max(axis=1) / np.float32(127)
    scaled = weights * _inverse(scale)[:, None]
    rounded = np.trunc(scaled + np.copysign(np.float32(0.49999997), scaled))  # 0.5 would round 0.49999997 up
    return np.hstack([_halves(scale), _codes(rounded, scale).view(np.int8).view(np.uint8)])


def encode_q4_0(weights: Numbers) -> Bytes:
    """[blocks, 32] to [blocks, 18]: the first weight of the largest magnitude becomes -8."""
    scale = _signed_peak(weights) / np.float32(-8)
    shifted = weights * _inverse(scale)[:, None] + np.float32(8.5)
    return np.hstack([_halves(scale), _nibbles(_codes(shifted, scale, 15))])


def encode_q4_1(weights: Numbers) -> Bytes:
    """[blocks, 32] to [blocks, 20]: from the smallest weight to the largest in 15 steps."""
    low = _first_smallest(weights)
    scale = np.abs(weights.max(axis=1) - low) / np.float32(15)  # never a negative zero
    shifted = (weights - low[:, None]) * _inverse(scale)[:, None] + np.float32(0.5)
    return np.hstack([_halves(scale), _halves(low), _nibbles(_codes(shifted, scale, 15))])


def encode_q5_0(weights: Numbers) -> Bytes:
    """[blocks, 32] to [blocks, 22]: as Q4_0 with 31 steps."""
    scale = _signed_peak(weights) / np.float32(-16)
    shifted = weights * _inverse(scale)[:, None] + np.float32(16.5)
    codes = _codes(shifted, scale, 31)
    return np.hstack([_halves(scale), _fifth_bits(codes), _nibbles(codes & np.uint8(15))])


def encode_q5_1(weights: Numbers) -> Bytes:
    """[blocks, 32] to [blocks, 24]: as Q4_1 with 31 steps."""
    low = _first_smallest(weights)
    scale = np.abs(weights.max(axis=1) - low) / np.float32(31)
    shifted = (weights - low[:, None]) * _inverse(scale)[:, None] + np.float32(0.5)
    codes = _codes(shifted, scale, 255)
    return np.hstack([_halves(scale), _halves(low), _fifth_bits(codes), _nibbles(codes & np.uint8(15))])


def decode_q8_0(blocks: Bytes) -> Numbers:
    return blocks[:, 2:].view(np.int8).astype(np.float32) * _numbers(blocks, 0)


def decode_q4_0(blocks: Bytes) -> Numbers:
    return (_four_bits(blocks[:, 2:]) - np.float32(8)) * _numbers(blocks, 0)


def decode_q4_1(blocks: Bytes) -> Numbers:
    return _four_bits(blocks[:, 4:]) * _numbers(blocks, 0) + _numbers(blocks, 2)


def decode_q5_0(blocks: Bytes) -> Numbers:
    return (_five_bits(blocks[:, 2:]) - np.float32(16)) * _numbers(blocks, 0)


def decode_q5_1(blocks: Bytes) -> Numbers:
    return _five_bits(blocks[:, 4:]) * _numbers(blocks, 0) + _numbers(blocks, 2)


def _signed_peak(weights: Numbers) -> Numbers:
    """The first weight of the largest magnitude of each block; a block of zeros has no sign."""
    first = np.abs(weights).argmax(axis=1)
    peak: Numbers = weights[np.arange(len(weights)), first]
    peak[peak == 0] = 0
    return peak


def _first_smallest(weights: Numbers) -> Numbers:
    """The smallest weight of each block: of a zero and a negative zero the one that comes first."""
    low: Numbers = weights[np.arange(len(weights)), weights.argmin(axis=1)]
    return low


def _inverse(scale: Numbers) -> Numbers:
    inverse: Numbers = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
    return inverse


def _codes(shifted: Numbers, scale: Numbers, most: int = 127) -> Bytes:
    """Whole parts, at most `most`, as bytes of which negative ones are two's complements."""
    usable = np.isfinite(_inverse(scale))[:, None] & np.isfinite(shifted)
    whole = np.where(usable, shifted, 0).astype(np.int32)
    return np.minimum(whole, most).astype(np.int8 if most == 127 else np.uint8).view(np.uint8)


def _halves(numbers: Numbers) -> Bytes:
    return np.ascontiguousarray(numbers.astype(np.float16)[:, None]).view(np.uint8)


def _numbers(blocks: Bytes, at: int) -> Numbers:
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


def _nibbles(codes: Bytes) -> Bytes:
    """Byte j holds the codes j (low) and j + 16."""
    return codes[:, :16] | codes[:, 16:] << np.uint8(4)


def _four_bits(packed: Bytes) -> Numbers:
    return np.hstack([packed & 15, packed >> 4]).astype(np.float32)


def _fifth_bits(codes: Bytes) -> Bytes:
    """Bit j of four bytes, the lowest byte first, is the fifth bit of code j."""
    return np.packbits(codes >> 4 & 1, axis=1, bitorder="little")


def _five_bits(packed: Bytes) -> Numbers:
    fifth = np.unpackbits(np.ascontiguousarray(packed[:, :4]), axis=1, bitorder="little")
    return _four_bits(packed[:, 4:]) + np.float32(16) * fifth

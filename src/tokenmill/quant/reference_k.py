"""Q4_K, Q5_K and Q6_K in NumPy, as ggml computes them: slow, obvious, and what the kernels are held against.

Weights come in superblocks of 256. Q4_K and Q5_K cut one into 8 blocks of 32 and store each weight as a code times a
scale minus an offset; Q6_K cuts it into 16 blocks of 16 and has a scale only. The blocks' scales and offsets are 6 (8
in Q6_K) bits wide, in units of a half-precision number that the superblock has of its own.

The files are the same byte for byte as ggml's only while every sum is taken in ggml's order, one weight after the
other, and every operation is rounded to float32 by itself. That is why sums are loops over columns here, not `sum()`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from tokenmill.quant.kernels.k_candidates import FIVE_BITS, FOUR_BITS, MAGIC, SIX_BITS, TINY

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Codes = NDArray[np.uint8]

SUPERBLOCK = 256
#: An F16 that is no number, in a superblock that can't be written.
NO_NUMBER = np.array([0x00, 0x7E], dtype=np.uint8)
#: The largest code of Q4_K and Q5_K, and what their candidates divide by the range.
AFFINE = {"Q4_K": (15, FOUR_BITS), "Q5_K": (31, FIVE_BITS)}


def encode_q4_k(weights: Floats) -> Codes:
    """[superblocks, 256] to [superblocks, 144]."""
    return _encode_affine("Q4_K", weights)


def encode_q5_k(weights: Floats) -> Codes:
    """[superblocks, 256] to [superblocks, 176]."""
    return _encode_affine("Q5_K", weights)


def decode_q4_k(stored: Codes) -> Floats:
    return _decode_affine("Q4_K", stored)


def decode_q5_k(stored: Codes) -> Floats:
    return _decode_affine("Q5_K", stored)


def nearest(numbers: Floats) -> Ints:
    """The nearest integers as ggml takes them from the bits; what is no small number becomes some integer, the same."""
    return ((numbers + MAGIC).view(np.int32) & np.int32(0x7FFFFF)) - np.int32(0x400000)


def halves(numbers: Floats) -> NDArray[np.uint8]:
    """Numbers [n] as the two bytes each of half precision."""
    return numbers.astype("<f2").view(np.uint8).reshape(-1, 2)


def _encode_affine(name: str, numbers: Floats) -> NDArray[np.uint8]:
    highest, tries = AFFINE[name]
    count = len(numbers)
    scales, offsets, codes = search_affine(numbers.reshape(count * 8, 32), highest, tries)
    scales, offsets = scales.reshape(count, 8), offsets.reshape(count, 8)
    unit, offset_unit = _largest(scales), _largest(offsets)
    small_scales = _six_bits(scales, unit)
    small_offsets = _six_bits(offsets, offset_unit)
    head = np.concatenate([halves(unit / np.float32(63)), halves(offset_unit / np.float32(63))], axis=1)
    unit, offset_unit = (head.view("<f2")[:, side].astype(np.float32) for side in (0, 1))
    step = unit[:, None] * small_scales.astype(np.float32)
    low = offset_unit[:, None] * small_offsets.astype(np.float32)
    weights = numbers.reshape(count, 8, 32)
    again = np.clip(nearest((weights + low[:, :, None]) / step[:, :, None]), 0, highest).astype(np.uint8)
    final = np.where((step == 0)[:, :, None], codes.reshape(count, 8, 32), again)
    head[_unusable(numbers), :2] = NO_NUMBER
    return np.concatenate([head, _pack_scales(small_scales, small_offsets), *_pack_affine(name, final)], axis=1)


def search_affine(weights: Floats, highest: int, tries: Floats) -> tuple[Floats, Floats, Codes]:
    """Scales [n], offsets [n] and codes [n, 32] of blocks [n, 32]: of all candidates the least weighted error.

    Large weights count more. Each candidate rounds with the lowest value of the best one so far, then fits a line
    through the codes it got.
    """
    count = len(weights)
    squares = _sum(weights[:, i] * weights[:, i] for i in range(32))
    importance = np.sqrt(squares / np.float32(32))[:, None] + np.abs(weights)
    total = _sum(importance[:, i] for i in range(32))
    total_x = _sum(importance[:, i] * weights[:, i] for i in range(32))
    low = np.minimum(weights.min(axis=1), np.float32(0))
    high = weights.max(axis=1)
    flat = high == low
    inverse: Floats = np.float32(highest) / (high - low)
    scale: Floats = np.float32(1) / inverse
    codes = _codes(weights, inverse, low, highest)
    error = _error(weights, importance, codes, scale, low)
    for numerator in tries:
        trial = _codes(weights, numerator / (high - low), low, highest)
        sums: list[Floats] = [np.zeros(count, dtype=np.float32) for _ in range(3)]
        for i in range(32):
            code = trial[:, i].astype(np.float32)
            weighted = importance[:, i] * code
            sums[0] += weighted
            sums[1] += weighted * code
            sums[2] += weighted * weights[:, i]
        by_code, by_square, by_weight = sums
        spread = total * by_square - by_code * by_code
        new_scale: Floats = np.divide(total * by_weight - total_x * by_code, spread)
        new_low: Floats = np.divide(by_square * total_x - by_code * by_weight, spread)
        above = new_low > 0
        new_scale = np.where(above, by_weight / by_square, new_scale)
        new_low = np.where(above, np.float32(0), new_low)
        new_error = _error(weights, importance, trial, new_scale, new_low)
        better = (spread > 0) & (new_error < error)
        error = np.where(better, new_error, error)
        scale = np.where(better, new_scale, scale)
        low = np.where(better, new_low, low)
        codes = np.where(better[:, None], trial, codes)
    codes[flat] = 0
    return np.where(flat, np.float32(0), scale), -low, codes


def _codes(weights: Floats, inverse: Floats, low: Floats, highest: int) -> Codes:
    return np.clip(nearest(inverse[:, None] * (weights - low[:, None])), 0, highest).astype(np.uint8)


def _error(weights: Floats, importance: Floats, codes: Codes, scale: Floats, low: Floats) -> Floats:
    total = np.zeros(len(weights), dtype=np.float32)
    for i in range(32):
        miss = scale * codes[:, i].astype(np.float32) + low - weights[:, i]
        total += importance[:, i] * (miss * miss)
    return total


def _sum(columns: Iterable[Floats]) -> Floats:
    """One column after the other, rounded each time: `np.sum` would add them in pairs."""
    return reduce(np.add, columns)


def _unusable(weights: Floats) -> NDArray[np.bool_]:
    """Which superblocks have a weight that is no number; their F16 says so."""
    unusable: NDArray[np.bool_] = np.logical_or.reduce(~np.isfinite(weights), axis=1)
    return unusable


def _largest(values: Floats) -> Floats:
    """The largest number of each row, 0 if none is above it; what is no number doesn't count."""
    largest: Floats = np.fmax(np.fmax.reduce(values, axis=1), np.float32(0))
    return largest


def _six_bits(values: Floats, unit: Floats) -> Codes:
    """Values [n, 8] in 63rds of `unit`; a negative one wraps as a byte does."""
    inverse = np.where(unit > 0, np.float32(63) / unit, np.float32(0))
    wrapped = nearest(inverse[:, None] * values) & np.int32(0xFF)
    small: Codes = np.minimum(wrapped, 63).astype(np.uint8)
    return small


def _pack_scales(scales: Codes, offsets: Codes) -> Codes:
    """Eight scales and eight offsets of 6 bits in 12 bytes: the upper half of them lends its top bits to the lower."""
    first = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    second = offsets[:, :4] | (offsets[:, 4:] >> 4) << 6
    third = (scales[:, 4:] & 15) | (offsets[:, 4:] & 15) << 4
    return np.concatenate([first, second, third], axis=1)


def _unpack_scales(packed: Codes) -> tuple[Codes, Codes]:
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, (third & 15) | (first >> 6) << 4], axis=1)
    offsets = np.concatenate([second & 63, (third >> 4) | (second >> 6) << 4], axis=1)
    return scales, offsets


def _pack_affine(name: str, codes: Codes) -> list[Codes]:
    """Codes [n, 8, 32]: the fifth bits first, one byte for eight blocks, then two blocks to a row of nibbles."""
    nibbles = (codes[:, 0::2] & np.uint8(15)) | codes[:, 1::2] << np.uint8(4)
    low: Codes = nibbles.reshape(-1, 128)
    if name == "Q4_K":
        return [low]
    fifth: Codes = np.bitwise_or.reduce((codes >> 4) << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    return [fifth, low]


@np.errstate(all="ignore")  # a damaged file may hold units that are no numbers
def _decode_affine(name: str, stored: Codes) -> Floats:
    count = len(stored)
    units = np.ascontiguousarray(stored[:, :4]).view("<f2").astype(np.float32)
    scales, offsets = _unpack_scales(stored[:, 4:16])
    nibbles = stored[:, -128:].reshape(count, 4, 1, 32)
    codes = np.concatenate([nibbles & 15, nibbles >> 4], axis=2).reshape(count, 8, 32)
    if name == "Q5_K":
        codes |= (stored[:, 16:48].reshape(count, 1, 32) >> np.arange(8, dtype=np.uint8)[:, None] & 1) << 4
    step = units[:, :1] * scales.astype(np.float32)
    low = units[:, 1:] * offsets.astype(np.float32)
    weights: Floats = step[:, :, None] * codes.astype(np.float32) - low[:, :, None]
    return weights.reshape(count, SUPERBLOCK)


def encode_q6_k(numbers: Floats) -> Codes:
    """[superblocks, 256] to [superblocks, 210].

    Where squares of weights are beyond F32, ggml writes zeros without a word; such a superblock counts as one that
    can't be written.
    """
    count = len(numbers)
    scales, codes = search_symmetric(numbers.reshape(count * 16, 16))
    scales = scales.reshape(count, 16)
    sizes = np.where(np.isnan(scales), np.float32(0), np.abs(scales))
    largest = sizes.argmax(axis=1)[:, None]
    zero = np.take_along_axis(sizes, largest, axis=1)[:, 0] < TINY
    inverse = np.float32(-128) / np.take_along_axis(scales, largest, axis=1)
    unit = halves(np.float32(1) / inverse[:, 0])
    small = np.minimum(nearest(inverse * scales), 127).astype(np.int8)
    step = unit.view("<f2").astype(np.float32) * small.astype(np.float32)
    again = np.clip(nearest(numbers.reshape(count, 16, 16) / step[:, :, None]), -32, 31) + 32
    final = np.where((step == 0)[:, :, None], codes.reshape(count, 16, 16), again).astype(np.uint8)
    quarters = final.reshape(count, 2, 4, 32)
    low = (quarters[:, :, :2] & 15) | (quarters[:, :, 2:] & 15) << 4
    high = np.bitwise_or.reduce((quarters >> 4) << np.array([0, 2, 4, 6], dtype=np.uint8)[:, None], axis=2)
    parts = [low.reshape(count, 128), high.reshape(count, 64), small.view(np.uint8), unit]
    stored = np.concatenate(parts, axis=1)
    stored[zero] = 0
    stored[_unusable(numbers) | np.isnan(scales).any(axis=1), 208:] = NO_NUMBER
    return stored


def search_symmetric(weights: Floats) -> tuple[Floats, Codes]:
    """Scales [n] and codes [n, 16] of blocks [n, 16]: of all candidates the one that explains most of the squares."""
    place = np.abs(weights).argmax(axis=1)[:, None]
    peak = np.take_along_axis(weights, place, axis=1)[:, 0]
    inverse = np.float32(-32) / peak
    by_weight, by_square, codes = _explained(weights, inverse)
    scale = np.where(by_square == 0, np.float32(0), by_weight / by_square)
    best = scale * by_weight
    for numerator in SIX_BITS:
        by_weight, by_square, trial = _explained(weights, numerator / peak)
        better = (by_square > 0) & (by_weight * by_weight > best * by_square)
        new_scale = by_weight / by_square
        scale = np.where(better, new_scale, scale)
        best = np.where(better, new_scale * by_weight, best)
        codes = np.where(better[:, None], trial, codes)
    zero = np.abs(peak) < TINY
    codes[zero] = 0
    return np.where(zero, np.float32(0), scale), codes


def _explained(weights: Floats, inverse: Floats) -> tuple[Floats, Floats, Codes]:
    """Sums over each block of w w w c and w w c c, for weights w and the codes c that a scale gives; and c + 32."""
    codes = np.clip(nearest(inverse[:, None] * weights), -32, 31)
    by_weight, by_square = (np.zeros(len(weights), dtype=np.float32) for _ in range(2))
    for i in range(16):
        code = codes[:, i].astype(np.float32)
        square = weights[:, i] * weights[:, i]
        by_weight += square * weights[:, i] * code
        by_square += square * code * code
    return by_weight, by_square, (codes + 32).astype(np.uint8)


@np.errstate(all="ignore")  # a damaged file may hold units that are no numbers
def decode_q6_k(stored: Codes) -> Floats:
    count = len(stored)
    low = stored[:, :128].reshape(count, 2, 2, 32)
    high = stored[:, 128:192].reshape(count, 2, 1, 32) >> np.array([0, 2, 4, 6], dtype=np.uint8)[:, None] & 3
    codes = (np.concatenate([low & 15, low >> 4], axis=2) | high << 4).astype(np.int8) - np.int8(32)
    unit = np.ascontiguousarray(stored[:, 208:]).view("<f2").astype(np.float32)
    step = unit * stored[:, 192:208].view(np.int8).astype(np.float32)
    weights: Floats = step[:, :, None] * codes.reshape(count, 16, 16).astype(np.float32)
    return weights.reshape(count, SUPERBLOCK)

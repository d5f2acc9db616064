"""Q4_K, Q5_K and Q6_K compiled: the bytes of the reference, four superblocks at a time.

Each takes weights as bits and writes superblocks; it returns -1, or the first superblock that can't be written because
a weight is no number or a scale is too large for F16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tokenmill.quant.kernels.k_candidates import FIVE_BITS, FOUR_BITS, MAGIC, SIX_BITS, TINY
from tokenmill.quant.kernels.k_lanes import (
    CODES_INVERSE,
    CODES_LOW,
    FLAT,
    LOW,
    SCALE,
    STATE_ROWS,
    begin_affine,
    begin_symmetric,
    load_tile,
    try_affine,
    try_symmetric,
)
from tokenmill.quant.kernels.k_pack import put_affine, put_high_bits, put_nibbles, put_symmetric
from tokenmill.quant.kernels.lanes import INFINITY, LANES, as_bits, as_number, peak, put_word, to_half

SUPERBLOCK = 256
TILE = 4 * SUPERBLOCK
STATE = STATE_ROWS * LANES

_ZERO, _ONE = np.float32(0), np.float32(1)
#: The smallest magnitude that rounds to an infinite F16.
_TOO_LARGE = np.float32(65520)


def q4_k(bits: Any, out: Any) -> Any:
    """[superblocks * 256] to [superblocks * 144]."""
    return _affine(bits, out, FOUR_BITS, np.float32(15), 144)


def q5_k(bits: Any, out: Any) -> Any:
    """[superblocks * 256] to [superblocks * 176]."""
    return _affine(bits, out, FIVE_BITS, np.float32(31), 176)


@njit(error_model="numpy")
def _affine(bits: Any, out: Any, tries: Any, highest: Any, size: Any) -> Any:
    room = _room(3 * TILE + STATE)
    tile, importance, trial, state = room[:TILE], room[TILE : 2 * TILE], room[2 * TILE : 3 * TILE], room[3 * TILE :]
    weights, codes = np.zeros(TILE, bits.dtype), np.empty(SUPERBLOCK, np.uint8)
    for first in range(0, bits.size, TILE):
        here = min(TILE, bits.size - first)
        weights[:here] = bits[first : first + here]
        if load_tile(tile, weights, 0):
            return first // SUPERBLOCK + _unusable(weights)
        begin_affine(tile, importance, state, highest)
        for numerator in tries:
            try_affine(tile, importance, trial, state, highest, numerator)
        for block in range(here // SUPERBLOCK):
            start = (first // SUPERBLOCK + block) * size
            rest = weights[block * SUPERBLOCK :]
            if not _write_affine(out[start : start + size], rest, codes, state[block * 8 :], highest):
                return first // SUPERBLOCK + block
    return -1


@njit(error_model="numpy")
def _write_affine(out: Any, weights: Any, codes: Any, state: Any, highest: Any) -> Any:
    """One superblock, whose eight blocks are the first lanes of `state`; false if it can't be written."""
    unit = offset_unit = _ZERO
    for j in range(8):
        if state[FLAT * LANES + j]:
            state[SCALE * LANES + j] = _ZERO
        if state[SCALE * LANES + j] > unit:
            unit = state[SCALE * LANES + j]
        if -state[LOW * LANES + j] > offset_unit:
            offset_unit = -state[LOW * LANES + j]
    inverse = np.float32(63) / unit if unit > _ZERO else _ZERO
    offset_inverse = np.float32(63) / offset_unit if offset_unit > _ZERO else _ZERO
    unit, offset_unit = unit / np.float32(63), offset_unit / np.float32(63)
    if not (unit < _TOO_LARGE and offset_unit < _TOO_LARGE):
        return False
    half, offset_half = to_half(unit), to_half(offset_unit)
    put_word(out, 0, half)
    put_word(out, 2, offset_half)
    unit, offset_unit = _number(half), _number(offset_half)
    for j in range(8):
        scale = min(_nearest(inverse * state[SCALE * LANES + j]) & 255, 63)
        offset = min(_nearest(offset_inverse * -state[LOW * LANES + j]) & 255, 63)
        _put_scales(out, j, scale, offset)
        step, low = unit * np.float32(scale), offset_unit * np.float32(offset)
        found, start = state[CODES_INVERSE * LANES + j], state[CODES_LOW * LANES + j]
        put_affine(codes, j * 32, weights, j * 32, step, low, found, start, highest)
    if highest > 15:
        put_high_bits(out, 16, codes, 0, 1)
    for j in range(0, 8, 2):
        put_nibbles(out, out.size - 128 + j * 16, codes, j * 32, j * 32 + 32)
    return True


@njit(inline="always")
def _put_scales(out: Any, j: Any, scale: Any, offset: Any) -> None:
    """6 bits each of block `j`, from the first to the last block: the upper four lend two bits to the lower."""
    if j < 4:
        out[4 + j] = scale
        out[8 + j] = offset
    else:
        out[8 + j] = (scale & 15) | (offset & 15) << 4
        out[j] |= (scale >> 4) << 6
        out[4 + j] |= (offset >> 4) << 6


def q6_k(bits: Any, out: Any) -> Any:
    """[superblocks * 256] to [superblocks * 210]."""
    room = _room(2 * TILE + 2 * STATE)
    tile, squares, cubes = room[:TILE], room[TILE : 3 * TILE // 2], room[3 * TILE // 2 : 2 * TILE]
    states, known = room[2 * TILE :], np.empty(48, np.float32)
    weights, codes = np.zeros(TILE, bits.dtype), np.empty(SUPERBLOCK, np.uint8)
    for first in range(0, bits.size, TILE):
        here = min(TILE, bits.size - first)
        weights[:here] = bits[first : first + here]
        if load_tile(tile, weights, 0):
            return first // SUPERBLOCK + _unusable(weights)
        for side in range(2):
            half, state = tile[side * TILE // 2 :], states[side * STATE :]
            begin_symmetric(half, squares, cubes, state)
            for numerator in SIX_BITS:
                try_symmetric(half, squares, cubes, state, numerator)
        for block in range(here // SUPERBLOCK):
            start = (first // SUPERBLOCK + block) * 210
            rest = weights[block * SUPERBLOCK :]
            if not _write_symmetric(out[start : start + 210], rest, codes, states[block * 8 :], known):
                return first // SUPERBLOCK + block
    return -1


@njit(error_model="numpy")
def _write_symmetric(out: Any, weights: Any, codes: Any, states: Any, known: Any) -> Any:
    """One superblock: its 16 blocks are the first eight lanes of two states, in turn; false if it can't be written."""
    largest = signed = _ZERO
    for j in range(16):
        place = (j & 1) * STATE + (j >> 1)
        if states[FLAT * LANES + place]:
            states[SCALE * LANES + place] = _ZERO
        scale = states[SCALE * LANES + place]
        if scale != scale:  # squares of the weights are beyond F32
            return False
        if abs(scale) > largest:
            largest, signed = abs(scale), scale
    if largest < TINY:
        out[:] = 0
        return True
    inverse = np.float32(-128) / signed
    unit = _ONE / inverse
    if not abs(unit) < _TOO_LARGE:
        return False
    half = to_half(unit)
    put_word(out, 208, half)
    unit = _number(half)
    for j in range(16):
        place = (j & 1) * STATE + (j >> 1)
        scale = min(_nearest(inverse * states[SCALE * LANES + place]), 127)
        out[192 + j] = scale & 255
        flat = states[FLAT * LANES + place] > _ZERO
        known[j] = unit * np.float32(scale)
        known[16 + j] = _ZERO if flat else states[CODES_INVERSE * LANES + place]
        known[32 + j] = np.float32(-32) if flat else _ZERO
    for j in range(0, 16, 2):
        put_symmetric(codes, j * 16, weights, j * 16, known, j)
    for j in range(2):
        put_nibbles(out, j * 64, codes, j * 128, j * 128 + 64)
        put_nibbles(out, j * 64 + 32, codes, j * 128 + 32, j * 128 + 96)
        put_high_bits(out, 128 + j * 32, codes, j * 128, 2)
    return True


@njit(error_model="numpy")
def _room(count: Any) -> Any:
    """Memory from the beginning of a cache line: a vector that lies across two takes twice as long."""
    more = np.empty(count + 16, np.float32)
    skip = -(more.ctypes.data // 4) % 16
    return more[skip : skip + count]


@njit(error_model="numpy")
def _unusable(weights: Any) -> Any:
    """The first superblock of a tile with a weight that is no number."""
    at = 0
    while peak(weights, at) < np.uint32(INFINITY):
        at += LANES
    return at // SUPERBLOCK


@njit(inline="always")
def _nearest(number: Any) -> Any:
    """The nearest integer as ggml takes it from the bits, whatever the number."""
    return np.int64(as_bits(number + MAGIC) & np.uint32(0x7F_FFFF)) - 0x40_0000


@njit(inline="always")
def _number(half: Any) -> Any:
    """The F32 that a finite F16 stands for."""
    size = as_number((half & np.uint32(0x7FFF)) << np.uint32(13)) * np.float32(2.0**112)
    return -size if half & np.uint32(0x8000) else size

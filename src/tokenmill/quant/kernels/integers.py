"""Kernels of compressed-tensors' integers with a BF16 scale for each group; the reference says what they compute.

A BF16 weight is not divided by its scale but multiplied by the inverse, which gives the same bytes: the exact quotient
of two numbers of 8 significant bits is never half-way between two others, and its distance from there, at least 2^-17
of it, is many times the error of the product. This needs an inverse of full precision, so scales at the ends of F32
are divided by. For the same reason a half-way quotient needs no rule.

Each kernel returns -1, or the first group that holds a weight that is no number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from tokenmill.quant.kernels.lanes import (
    BYTES,
    I8,
    I16,
    INFINITY,
    LANES,
    NUMBERS,
    WORDS,
    as_bits,
    as_number,
    load,
    numbers,
    peak,
    pointer,
    put_word,
    splat,
    spread,
    store,
)

_NO_NUMBER = np.uint32(INFINITY)
_ZERO_SCALE = np.uint32(0x3C00_0000)
#: Scales whose inverse has full precision.
_LEAST, _MOST = np.float32(2.0**-125), np.float32(2.0**125)
#: Adding this rounds to a whole number, which is then in the lowest bits; ties to even.
_MAGIC = 1.5 * 2.0**23
_CLIPS = (np.float32(0.95), np.float32(0.9), np.float32(0.85), np.float32(0.8))


def _whole(builder: Any, array: Any, weights: Any, scale: Any, inverse: Any, width: int) -> Any:
    """Weights over their scale, rounded and clipped, plus half the range and `_MAGIC`."""
    if array.dtype == types.uint16:
        quotients = builder.fmul(weights, spread(builder, inverse))
        rounded = builder.add(builder.bitcast(quotients, WORDS), splat(WORDS, 0x8000))
        quotients = builder.bitcast(builder.and_(rounded, splat(WORDS, 0xFFFF_0000)), NUMBERS)
    else:
        quotients = builder.fdiv(weights, spread(builder, scale))
    return _clipped(builder, quotients, width)


def _clipped(builder: Any, quotients: Any, width: int) -> Any:
    half = 1 << (width - 1)
    least, most = splat(NUMBERS, -float(half)), splat(NUMBERS, half - 1.0)
    quotients = builder.select(builder.fcmp_ordered(">", quotients, least), quotients, least)
    quotients = builder.select(builder.fcmp_ordered("<", quotients, most), quotients, most)
    return builder.fadd(quotients, splat(NUMBERS, _MAGIC + half))


def _divided(builder: Any, array: Any, weights: Any, scale: Any, inverse: Any, width: int) -> Any:
    """The same by division, for any scale."""
    quotients = builder.fdiv(weights, spread(builder, scale))
    if array.dtype == types.uint16:
        rounded = builder.add(builder.bitcast(quotients, WORDS), splat(WORDS, 0x8000))
        quotients = builder.bitcast(builder.and_(rounded, splat(WORDS, 0xFFFF_0000)), NUMBERS)
    return _clipped(builder, quotients, width)


def _putter(step: Any, width: int) -> Any:
    """An intrinsic that writes 32 integers of so many bits."""

    def put(typing: Any, bits: Any, at: Any, scale: Any, inverse: Any, out: Any, to: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = signature.args[0]
            weights = numbers(builder, array, load(context, builder, array, arguments))
            whole = builder.bitcast(step(builder, array, weights, arguments[2], arguments[3], width), WORDS)
            codes = builder.trunc(whole, BYTES)
            store(context, builder, signature.args[4], arguments[4:], codes if width == 8 else _pairs(builder, codes))

        return types.void(bits, types.intp, types.float32, types.float32, out, types.intp), generate

    return intrinsic(put)


def _pairs(builder: Any, codes: Any) -> Any:
    """16 bytes of two codes each: 2 j in the low half of byte j, 2 j + 1 in the high half."""
    both = builder.bitcast(codes, ir.VectorType(I16, LANES // 2))
    low = builder.and_(both, splat(both.type, 0x0F))
    high = builder.and_(builder.lshr(both, splat(both.type, 4)), splat(both.type, 0xF0))
    return builder.trunc(builder.or_(low, high), ir.VectorType(I8, LANES // 2))


def _measurer(step: Any, width: int) -> Any:
    """An intrinsic that adds the square errors of 32 weights to the lanes of a sum."""

    def measure(typing: Any, bits: Any, at: Any, scale: Any, inverse: Any, lanes: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = signature.args[0]
            weights = numbers(builder, array, load(context, builder, array, arguments))
            whole = step(builder, array, weights, arguments[2], arguments[3], width)
            integers = builder.fsub(whole, splat(NUMBERS, _MAGIC + (1 << (width - 1))))
            errors = builder.fsub(builder.fmul(integers, spread(builder, arguments[2])), weights)
            start = [arguments[4], ir.Constant(arguments[1].type, 0)]
            place = pointer(context, builder, signature.args[4], start, NUMBERS)
            builder.store(builder.fadd(builder.load(place, align=4), builder.fmul(errors, errors)), place, align=4)

        return types.void(bits, types.intp, types.float32, types.float32, lanes), generate

    return intrinsic(measure)


_put4, _put8 = _putter(_whole, 4), _putter(_whole, 8)
_put4_divided, _put8_divided = _putter(_divided, 4), _putter(_divided, 8)
_measure4, _measure8 = _measurer(_whole, 4), _measurer(_whole, 8)


@njit(inline="always")
def _peak_of(bits: Any, start: Any, end: Any, tail: Any) -> Any:
    """Bits of the largest magnitude; the weights after the last 32 are copied to `tail`, which zeros fill up."""
    top = np.uint32(0)
    whole = start + (end - start) // LANES * LANES
    for at in range(start, whole, LANES):
        top = max(top, peak(bits, at))
    if whole < end:
        for at in range(whole, end):
            tail[at - whole] = bits[at]
        top = max(top, peak(tail, 0))
    return top


@njit(inline="always")
def _scale_of(top: Any, half: Any, clip: Any) -> Any:
    """The scale as a BF16 number."""
    bits = as_bits(as_number(top) * clip / half)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = np.uint32((bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF_0000))
    return as_number(_ZERO_SCALE if rounded == np.uint32(0) else rounded)


@njit(inline="always")
def _sum(lanes: Any) -> Any:
    half = LANES // 2
    while half:
        for each in range(half):
            lanes[each] += lanes[each + half]
        half //= 2
    return lanes[0]


@njit(inline="always")
def _error4(bits: Any, start: Any, end: Any, scale: Any, lanes: Any) -> Any:
    lanes[:] = np.float32(0)
    for at in range(start, end, LANES):
        _measure4(bits, at, scale, np.float32(1) / scale, lanes)
    return _sum(lanes)


@njit(inline="always")
def _error8(bits: Any, start: Any, end: Any, scale: Any, lanes: Any, tail: Any) -> Any:
    lanes[:] = np.float32(0)
    whole = start + (end - start) // LANES * LANES
    for at in range(start, whole, LANES):
        _measure8(bits, at, scale, np.float32(1) / scale, lanes)
    if whole < end:
        _measure8(tail, 0, scale, np.float32(1) / scale, lanes)
    return _sum(lanes)


def int4(bits: Any, packed: Any, scales: Any, span: Any, mse: Any) -> Any:
    lanes, tail = np.zeros(LANES, np.float32), np.zeros(LANES, bits.dtype)
    half = np.float32(7.5)
    for group in range(bits.size // span):
        start, end, to = group * span, (group + 1) * span, group * (span // 2)
        top = _peak_of(bits, start, end, tail)
        if top >= _NO_NUMBER:
            return group
        scale = _scale_of(top, half, np.float32(1))
        normal = _LEAST <= scale <= _MOST
        if mse and normal:  # at the ends of F32 the squares of all errors are zero or infinite: nothing to choose
            least = _error4(bits, start, end, scale, lanes)
            for clip in _CLIPS:
                tried = _scale_of(top, half, clip)
                error = _error4(bits, start, end, tried, lanes)
                if error < least:
                    least, scale = error, tried
        inverse = np.float32(1) / scale
        put_word(scales, group * 2, as_bits(scale) >> np.uint32(16))
        for at in range(0, span, LANES):
            if normal:
                _put4(bits, start + at, scale, inverse, packed, to + at // 2)
            else:
                _put4_divided(bits, start + at, scale, inverse, packed, to + at // 2)
    return -1


def int8(bits: Any, packed: Any, scales: Any, span: Any, mse: Any) -> Any:
    lanes, tail, last = np.zeros(LANES, np.float32), np.zeros(LANES, bits.dtype), np.zeros(LANES, np.uint8)
    half, whole, size = np.float32(127.5), span // LANES * LANES, (span + 3) // 4 * 4
    for group in range(bits.size // span):
        start, end, to = group * span, (group + 1) * span, group * size
        top = _peak_of(bits, start, end, tail)
        if top >= _NO_NUMBER:
            return group
        scale = _scale_of(top, half, np.float32(1))
        normal = _LEAST <= scale <= _MOST
        if mse and normal:
            least = _error8(bits, start, end, scale, lanes, tail)
            for clip in _CLIPS:
                tried = _scale_of(top, half, clip)
                error = _error8(bits, start, end, tried, lanes, tail)
                if error < least:
                    least, scale = error, tried
        inverse = np.float32(1) / scale
        put_word(scales, group * 2, as_bits(scale) >> np.uint32(16))
        for at in range(0, whole, LANES):
            if normal:
                _put8(bits, start + at, scale, inverse, packed, to + at)
            else:
                _put8_divided(bits, start + at, scale, inverse, packed, to + at)
        if whole < span:
            if normal:
                _put8(tail, 0, scale, inverse, last, 0)
            else:
                _put8_divided(tail, 0, scale, inverse, last, 0)
            for at in range(whole, size):
                packed[to + at] = last[at - whole] if at < span else np.uint8(0)
    return -1

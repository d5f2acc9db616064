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
from numba.core import cgutils
from numba.extending import intrinsic

from tokenmill.quant.kernels.lanes import (
    I8,
    I16,
    I32,
    INFINITY,
    LANES,
    NUMBERS,
    apart,
    as_bits,
    as_number,
    highest,
    load,
    numbers,
    put_word,
    splat,
    spread,
    store,
)

_NO_NUMBER = np.uint32(INFINITY)
_ONE = np.float32(1)
_ZERO_SCALE = np.uint32(0x3C00_0000)
#: Scales whose inverse has full precision.
_LEAST, _MOST = np.float32(2.0**-125), np.float32(2.0**125)
#: Adding this rounds to a whole number, which is then in the lowest bits; ties to even.
_MAGIC = 1.5 * 2.0**23
_CLIPS = (np.float32(0.95), np.float32(0.9), np.float32(0.85), np.float32(0.8))


def _whole(builder: Any, array: Any, weights: Any, scale: Any, inverse: Any, width: int) -> Any:
    """Weights over their scale, rounded and clipped, plus half the range and `_MAGIC`."""
    if array.dtype == types.uint16:
        return _clipped(builder, array, builder.fmul(weights, spread(builder, inverse, weights.type.count)), width)
    return _divided(builder, array, weights, scale, inverse, width)


def _divided(builder: Any, array: Any, weights: Any, scale: Any, inverse: Any, width: int) -> Any:
    """The same by division, for any scale."""
    return _clipped(builder, array, builder.fdiv(weights, spread(builder, scale, weights.type.count)), width)


def _clipped(builder: Any, array: Any, quotients: Any, width: int) -> Any:
    kind, words = quotients.type, ir.VectorType(I32, quotients.type.count)
    if array.dtype == types.uint16:
        rounded = builder.add(builder.bitcast(quotients, words), splat(words, 0x8000))
        quotients = builder.bitcast(builder.and_(rounded, splat(words, 0xFFFF_0000)), kind)
    half = 1 << (width - 1)
    least, most = splat(kind, -float(half)), splat(kind, half - 1.0)
    quotients = builder.select(builder.fcmp_ordered(">", quotients, least), quotients, least)
    quotients = builder.select(builder.fcmp_ordered("<", quotients, most), quotients, most)
    return builder.fadd(quotients, splat(kind, _MAGIC + half))


def _putter(step: Any, width: int) -> Any:
    """An intrinsic that writes the weights from `start` to `end`, by 32, as integers of so many bits."""

    def put(typing: Any, bits: Any, start: Any, end: Any, scale: Any, inverse: Any, out: Any, to: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array, (source, start, end, scale, inverse, out, to) = signature.args[0], arguments
            lanes = ir.Constant(start.type, LANES)
            with cgutils.for_range_slice(builder, start, end, lanes, start.type) as (at, _):
                parts = apart(builder, array, load(context, builder, array, [source, at]))
                even, odd = (step(builder, array, weights, scale, inverse, width) for weights in parts)
                done = builder.sub(at, start)
                done = builder.ashr(done, ir.Constant(done.type, 1)) if width == 4 else done
                store(
                    context,
                    builder,
                    signature.args[5],
                    [out, builder.add(to, done)],
                    _joined(builder, even, odd, width),
                )

        place, number = types.intp, types.float32
        return types.void(bits, place, place, number, number, out, place), generate

    return intrinsic(put)


def _joined(builder: Any, even: Any, odd: Any, width: int) -> Any:
    """Codes of so many bits side by side, the even ones lower: two make a byte or 16 bits."""
    words = ir.VectorType(I32, even.type.count)
    mask = (1 << width) - 1
    low = builder.and_(builder.bitcast(even, words), splat(words, mask))
    high = builder.and_(builder.shl(builder.bitcast(odd, words), splat(words, width)), splat(words, mask << width))
    return builder.trunc(builder.or_(low, high), ir.VectorType(I8 if width == 4 else I16, even.type.count))


@intrinsic
def _error4(typing: Any, bits: Any, start: Any, end: Any, scale: Any, inverse: Any) -> Any:
    """The sum of the square errors of the weights from `start` to `end`: by lanes, which are then added in halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, (source, start, end, scale, inverse) = signature.args[0], arguments
        total = cgutils.alloca_once_value(builder, splat(NUMBERS, 0.0))
        with cgutils.for_range_slice(builder, start, end, ir.Constant(start.type, LANES), start.type) as (at, _):
            weights = numbers(builder, array, load(context, builder, array, [source, at]))
            whole = _whole(builder, array, weights, scale, inverse, 4)
            integers = builder.fsub(whole, splat(NUMBERS, _MAGIC + 8))
            errors = builder.fsub(builder.fmul(integers, spread(builder, scale)), weights)
            builder.store(builder.fadd(builder.load(total), builder.fmul(errors, errors)), total)
        lanes = builder.load(total)
        for half in (16, 8, 4, 2, 1):
            parts = (ir.Constant(ir.VectorType(I32, half), list(range(each, each + half))) for each in (0, half))
            lanes = builder.fadd(*(builder.shuffle_vector(lanes, lanes, part) for part in parts))
        return builder.extract_element(lanes, ir.Constant(I32, 0))

    place, number = types.intp, types.float32
    return number(bits, place, place, number, number), generate


_put4, _put8 = _putter(_whole, 4), _putter(_whole, 8)
_put4_divided, _put8_divided = _putter(_divided, 4), _putter(_divided, 8)


@njit
def _scale_of(top: Any, half: Any, clip: Any) -> Any:
    """The scale as a BF16 number."""
    bits = as_bits(as_number(top) * clip / half)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = np.uint32((bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF_0000))
    return as_number(_ZERO_SCALE if rounded == np.uint32(0) else rounded)


@njit
def _best_scale(bits: Any, start: Any, end: Any, top: Any, scale: Any) -> Any:
    """Of `scale` and those that clip the one with the smallest square error."""
    least = _error4(bits, start, end, scale, _ONE / scale)
    for clip in _CLIPS:
        tried = _scale_of(top, np.float32(7.5), clip)
        error = _error4(bits, start, end, tried, _ONE / tried)
        if error < least:
            least, scale = error, tried
    return scale


@njit
def _write4(bits: Any, start: Any, end: Any, scale: Any, packed: Any) -> Any:
    if _LEAST <= scale <= _MOST:
        _put4(bits, start, end, scale, _ONE / scale, packed, start // 2)
    else:
        _put4_divided(bits, start, end, scale, _ONE, packed, start // 2)


def int4(bits: Any, packed: Any, scales: Any, span: Any) -> Any:
    for group in range(bits.size // span):
        start, end = group * span, (group + 1) * span
        top = highest(bits, start, end)
        if top >= _NO_NUMBER:
            return group
        scale = _scale_of(top, np.float32(7.5), _ONE)
        put_word(scales, group * 2, as_bits(scale) >> np.uint32(16))
        _write4(bits, start, end, scale, packed)
    return -1


def int4_mse(bits: Any, packed: Any, scales: Any, span: Any) -> Any:
    for group in range(bits.size // span):
        start, end = group * span, (group + 1) * span
        top = highest(bits, start, end)
        if top >= _NO_NUMBER:
            return group
        scale = _scale_of(top, np.float32(7.5), _ONE)
        if _LEAST <= scale <= _MOST:  # beyond, the squares of all errors are zero or infinite: nothing to choose
            scale = _best_scale(bits, start, end, top, scale)
        put_word(scales, group * 2, as_bits(scale) >> np.uint32(16))
        _write4(bits, start, end, scale, packed)
    return -1


@njit
def _write8(bits: Any, start: Any, end: Any, scale: Any, packed: Any, to: Any) -> Any:
    if _LEAST <= scale <= _MOST:
        _put8(bits, start, end, scale, _ONE / scale, packed, to)
    else:
        _put8_divided(bits, start, end, scale, _ONE, packed, to)


def int8(bits: Any, packed: Any, scales: Any, span: Any) -> Any:
    """For rows of at least 32 weights: the last 32 are done again where the row isn't a multiple of 32."""
    whole, size = span // LANES * LANES, (span + 3) // 4 * 4
    for row in range(bits.size // span):
        start, end, to = row * span, (row + 1) * span, row * size
        top = max(highest(bits, start, start + whole), highest(bits, end - LANES, end))
        if top >= _NO_NUMBER:
            return row
        scale = _scale_of(top, np.float32(127.5), _ONE)
        put_word(scales, row * 2, as_bits(scale) >> np.uint32(16))
        _write8(bits, start, start + whole, scale, packed, to)
        if whole < span:
            _write8(bits, end - LANES, end, scale, packed, to + span - LANES)
            for at in range(to + span, to + size):
                packed[at] = np.uint8(0)
    return -1

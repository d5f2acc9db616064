"""Kernels of ggml's formats with one scale for 32 weights; the reference says what they compute.

Each takes weights as bits and writes blocks; it returns -1, or the first block that can't be written because a weight
is no number or a scale is too large for F16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from tokenmill.quant.kernels.lanes import (
    BYTES,
    FLOAT,
    I32,
    INFINITY,
    NUMBERS,
    WORDS,
    as_number,
    call,
    load,
    numbers,
    peak,
    put_word,
    sign_of_first,
    splat,
    spread,
    store,
    to_half,
)

_NO_NUMBER = np.uint32(INFINITY)
_ZERO, _ONE = np.float32(0), np.float32(1)
#: The smallest magnitude that rounds to an infinite F16.
_TOO_LARGE = np.float32(65520)


@intrinsic
def _put_rounded(typing: Any, bits: Any, at: Any, times: Any, out: Any, to: Any) -> Any:
    """32 weights times a number as signed bytes; halves away from zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weights = numbers(builder, signature.args[0], load(context, builder, signature.args[0], arguments))
        scaled = builder.fmul(weights, spread(builder, arguments[2]))
        sign = builder.and_(builder.bitcast(scaled, WORDS), splat(WORDS, 0x8000_0000))
        half = builder.or_(sign, splat(WORDS, 0x3EFF_FFFF))
        moved = builder.fadd(scaled, builder.bitcast(half, NUMBERS))
        codes = builder.trunc(builder.fptosi(moved, WORDS), BYTES)
        store(context, builder, signature.args[3], arguments[3:], codes)

    return types.void(bits, types.intp, types.float32, out, types.intp), generate


def _codes(context: Any, builder: Any, signature: Any, arguments: Any, most: int | None) -> Any:
    """The whole parts of (weights - low) * times + plus, at most `most`, as bytes."""
    weights = numbers(builder, signature.args[0], load(context, builder, signature.args[0], arguments))
    low, times, plus = (spread(builder, argument) for argument in arguments[2:5])
    shifted = builder.fadd(builder.fmul(builder.fsub(weights, low), times), plus)
    whole = builder.fptosi(shifted, WORDS)
    if most is not None:
        whole = call(builder, "llvm.smin.v32i32", WORDS, whole, splat(WORDS, most))
    return builder.trunc(whole, BYTES)


def _nibbles(builder: Any, codes: Any) -> Any:
    """16 bytes of two codes each: j in the low half of byte j, j + 16 in the high half."""
    low, high = (
        builder.shuffle_vector(codes, codes, ir.Constant(ir.VectorType(I32, 16), list(range(start, start + 16))))
        for start in (0, 16)
    )
    return builder.or_(low, builder.shl(high, splat(low.type, 4)))


@intrinsic
def _put_fours(typing: Any, bits: Any, at: Any, low: Any, times: Any, plus: Any, out: Any, to: Any) -> Any:
    """Codes of four bits in 16 bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes = _codes(context, builder, signature, arguments, 15)
        store(context, builder, signature.args[5], arguments[5:], _nibbles(builder, codes))

    number = types.float32
    return types.void(bits, types.intp, number, number, number, out, types.intp), generate


@intrinsic
def _put_fives(typing: Any, bits: Any, at: Any, low: Any, times: Any, plus: Any, out: Any, to: Any) -> Any:
    """Codes of five bits: the fifth ones in four bytes, the others in 16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes = _codes(context, builder, signature, arguments, 31)
        fifth = builder.icmp_unsigned("!=", builder.and_(codes, splat(BYTES, 16)), splat(BYTES, 0))
        store(context, builder, signature.args[5], arguments[5:], builder.bitcast(fifth, I32))
        after = builder.add(arguments[6], ir.Constant(arguments[6].type, 4))
        four = _nibbles(builder, builder.and_(codes, splat(BYTES, 15)))
        store(context, builder, signature.args[5], [arguments[5], after], four)

    number = types.float32
    return types.void(bits, types.intp, number, number, number, out, types.intp), generate


@intrinsic
def _extremes(typing: Any, bits: Any, at: Any) -> Any:
    """The smallest and the largest of 32 weights; a negative zero counts as smaller than a zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weights = numbers(builder, signature.args[0], load(context, builder, signature.args[0], arguments))
        found = []
        whole = builder.bitcast(weights, WORDS)
        ordered = _flip(builder, whole, splat(WORDS, 31), splat(WORDS, 0x7FFF_FFFF))
        for name in ("smin", "smax"):
            extreme = call(builder, f"llvm.vector.reduce.{name}.v32i32", I32, ordered)
            back = _flip(builder, extreme, ir.Constant(I32, 31), ir.Constant(I32, 0x7FFF_FFFF))
            found.append(builder.bitcast(back, FLOAT))
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(types.float32, 2)(bits, types.intp), generate


def _flip(builder: Any, whole: Any, shift: Any, mask: Any) -> Any:
    """Bits of floats as integers of the same order, and back: negative ones are turned round."""
    return builder.xor(whole, builder.and_(builder.ashr(whole, shift), mask))


@njit(inline="always")
def _inverse(scale: Any) -> Any:
    return _ZERO if scale == _ZERO else _ONE / scale


@njit(inline="always")
def _signed_peak(bits: Any, at: Any, top: Any) -> Any:
    if top == np.uint32(0):
        return _ZERO
    return -as_number(top) if sign_of_first(bits, at, top) else as_number(top)


@njit(inline="always")
def _smallest(bits: Any, at: Any, low: Any) -> Any:
    """`low`, but of zeros of both signs the one that comes first."""
    if low != _ZERO:
        return low
    return -_ZERO if sign_of_first(bits, at, np.uint32(0)) else _ZERO


@njit(inline="always")
def _clear(out: Any, start: Any, end: Any) -> None:
    for each in range(start, end):
        out[each] = np.uint8(0)


def q8_0(bits: Any, out: Any) -> Any:
    for block in range(bits.size // 32):
        at, to = block * 32, block * 34
        top = peak(bits, at)
        scale = as_number(top) / np.float32(127)
        if top >= _NO_NUMBER or scale >= _TOO_LARGE:
            return block
        inverse = _inverse(scale)
        put_word(out, to, to_half(scale))
        if np.isinf(inverse):
            _clear(out, to + 2, to + 34)
        else:
            _put_rounded(bits, at, inverse, out, to + 2)
    return -1


def q4_0(bits: Any, out: Any) -> Any:
    for block in range(bits.size // 32):
        at, to = block * 32, block * 18
        top = peak(bits, at)
        scale = _signed_peak(bits, at, top) / np.float32(-8)
        if top >= _NO_NUMBER or abs(scale) >= _TOO_LARGE:
            return block
        inverse = _inverse(scale)
        put_word(out, to, to_half(scale))
        if np.isinf(inverse):
            _clear(out, to + 2, to + 18)
        else:
            _put_fours(bits, at, _ZERO, inverse, np.float32(8.5), out, to + 2)
    return -1


def q5_0(bits: Any, out: Any) -> Any:
    for block in range(bits.size // 32):
        at, to = block * 32, block * 22
        top = peak(bits, at)
        scale = _signed_peak(bits, at, top) / np.float32(-16)
        if top >= _NO_NUMBER or abs(scale) >= _TOO_LARGE:
            return block
        inverse = _inverse(scale)
        put_word(out, to, to_half(scale))
        if np.isinf(inverse):
            _clear(out, to + 2, to + 22)
        else:
            _put_fives(bits, at, _ZERO, inverse, np.float32(16.5), out, to + 2)
    return -1


def q4_1(bits: Any, out: Any) -> Any:
    for block in range(bits.size // 32):
        at, to = block * 32, block * 20
        if peak(bits, at) >= _NO_NUMBER:
            return block
        least, most = _extremes(bits, at)
        low = _smallest(bits, at, least)
        scale = (most - low) / np.float32(15)
        if scale >= _TOO_LARGE or abs(low) >= _TOO_LARGE:
            return block
        inverse = _inverse(scale)
        put_word(out, to, to_half(scale))
        put_word(out, to + 2, to_half(low))
        if np.isinf(inverse):
            _clear(out, to + 4, to + 20)
        else:
            _put_fours(bits, at, low, inverse, np.float32(0.5), out, to + 4)
    return -1


def q5_1(bits: Any, out: Any) -> Any:
    for block in range(bits.size // 32):
        at, to = block * 32, block * 24
        if peak(bits, at) >= _NO_NUMBER:
            return block
        least, most = _extremes(bits, at)
        low = _smallest(bits, at, least)
        scale = (most - low) / np.float32(31)
        if scale >= _TOO_LARGE or abs(low) >= _TOO_LARGE:
            return block
        inverse = _inverse(scale)
        put_word(out, to, to_half(scale))
        put_word(out, to + 2, to_half(low))
        if np.isinf(inverse):
            _clear(out, to + 4, to + 24)
        else:
            _put_fives(bits, at, low, inverse, np.float32(0.5), out, to + 4)
    return -1

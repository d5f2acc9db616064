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
    FLOAT,
    I8,
    I16,
    I32,
    LANES,
    WORDS,
    apart,
    as_number,
    call,
    load,
    numbers,
    peak,
    put_word,
    sign_of_first_peak,
    sign_of_first_zero,
    splat,
    spread,
    store,
    to_half,
)
from tokenmill.quant.kernels.sixteen import (
    FOUR,
    SIXTEEN,
    TINY,
    TOO_LARGE,
    copy_sixteen,
    four_times_four_bits,
    sixteen_scales,
    sixteen_signed_scales,
)

_ZERO, _ONE = np.float32(0), np.float32(1)
_TOO_LARGE, _TINY = np.float32(TOO_LARGE), np.float32(TINY)
_NOTHING = np.uint8(0)
#: Blocks that go through one step after the other: enough that calls cost nothing, and few enough that they and what
#: the steps leave stay in the innermost cache.
_RUN = 256


@intrinsic
def _put_rounded(typing: Any, bits: Any, at: Any, times: Any, out: Any, to: Any) -> Any:
    """32 weights times a number as signed bytes; halves away from zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = signature.args[0]
        even, odd = (
            _rounded(builder, builder.fmul(weights, spread(builder, arguments[2], LANES // 2)))
            for weights in apart(builder, array, load(context, builder, array, arguments))
        )
        low = builder.and_(even, splat(even.type, 0xFF))
        both = builder.or_(low, builder.shl(odd, splat(odd.type, 8)))
        store(context, builder, signature.args[3], arguments[3:], builder.trunc(both, ir.VectorType(I16, LANES // 2)))

    return types.void(bits, types.intp, types.float32, out, types.intp), generate


def _rounded(builder: Any, scaled: Any) -> Any:
    """Whole numbers, halves away from zero."""
    words = ir.VectorType(I32, scaled.type.count)
    sign = builder.and_(builder.bitcast(scaled, words), splat(words, 0x8000_0000))
    half = builder.or_(sign, splat(words, 0x3EFF_FFFF))
    return builder.fptosi(builder.fadd(scaled, builder.bitcast(half, scaled.type)), words)


def _codes(context: Any, builder: Any, signature: Any, arguments: Any, most: int) -> Any:
    """The whole parts of (weights - low) * times + plus, at most `most`."""
    weights = numbers(builder, signature.args[0], load(context, builder, signature.args[0], arguments))
    low, times, plus = (spread(builder, argument) for argument in arguments[2:5])
    shifted = builder.fadd(builder.fmul(builder.fsub(weights, low), times), plus)
    return call(builder, "llvm.smin.v32i32", WORDS, builder.fptosi(shifted, WORDS), splat(WORDS, most))


def _nibbles(builder: Any, codes: Any) -> Any:
    """16 bytes of two codes each: j in the low half of byte j, j + 16 in the high half. Words are joined before they
    are made bytes, so that there is one narrowing and not two.
    """
    low, high = (
        builder.shuffle_vector(codes, codes, ir.Constant(ir.VectorType(I32, 16), list(range(start, start + 16))))
        for start in (0, 16)
    )
    return builder.trunc(builder.or_(low, builder.shl(high, splat(low.type, 4))), ir.VectorType(I8, 16))


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
        fifth = builder.icmp_unsigned("!=", builder.and_(codes, splat(WORDS, 16)), splat(WORDS, 0))
        store(context, builder, signature.args[5], arguments[5:], builder.bitcast(fifth, I32))
        after = builder.add(arguments[6], ir.Constant(arguments[6].type, 4))
        four = _nibbles(builder, builder.and_(codes, splat(WORDS, 15)))
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
def _signed_peak(bits: Any, at: Any) -> Any:
    """The first weight of the largest magnitude; a choice of signs by a jump would go wrong half of the time."""
    top = peak(bits, at)
    return _ZERO if top == np.uint32(0) else as_number(top | sign_of_first_peak(bits, at))


@njit(inline="always")
def _smallest(bits: Any, at: Any, low: Any) -> Any:
    """`low`, but of zeros of both signs the one that comes first."""
    return low if low != _ZERO else as_number(sign_of_first_zero(bits, at))


@njit
def _fill(out: Any, start: Any, end: Any, value: Any) -> None:
    for each in range(start, end):
        out[each] = value


@njit
def _scaled(bits: Any, begin: Any, end: Any, most: Any, inverses: Any, halves: Any) -> Any:
    """Makes scales by sixteen blocks from `begin` on; returns the first block that has none."""
    end -= (end - begin) % SIXTEEN
    for block in range(begin, end, SIXTEEN):
        if not sixteen_scales(bits, block, most, inverses, halves, block - begin):
            return block
    return end


@njit
def _scaled_with_sign(bits: Any, begin: Any, end: Any, most: Any, inverses: Any, halves: Any) -> Any:
    """The same with the sign of the first weight of the largest magnitude."""
    end -= (end - begin) % SIXTEEN
    for block in range(begin, end, SIXTEEN):
        if not sixteen_signed_scales(bits, block, most, inverses, halves, block - begin):
            return block
    return end


@njit
def _some_q8_0(bits: Any, begin: Any, end: Any, out: Any) -> Any:
    for block in range(begin, end):
        at, to = block * LANES, block * 34
        scale = as_number(peak(bits, at)) / np.float32(127)
        if not scale < _TOO_LARGE:  # a scale that is no number isn't smaller either
            return block
        put_word(out, to, to_half(scale))
        if scale > _TINY:
            _put_rounded(bits, at, _ONE / scale, out, to + 2)
        else:
            _fill(out, to + 2, to + 34, _NOTHING)
    return -1


@njit
def _many_q8_0(bits: Any, begin: Any, end: Any, out: Any, inverses: Any, halves: Any) -> Any:
    """Writes blocks from `begin` on as long as sixteen can be done at once; returns the first that isn't written."""
    end = _scaled(bits, begin, end, np.float32(127), inverses, halves)
    for block in range(begin, end):
        at, to = block - begin, block * 34
        put_word(out, to, np.uint32(halves[at]))
        _put_rounded(bits, block * LANES, inverses[at], out, to + 2)
    return end


def q8_0(bits: Any, out: Any) -> Any:
    count = bits.size // LANES
    inverses, halves = np.empty(_RUN, np.float32), np.empty(_RUN, np.uint16)
    for begin in range(0, count, _RUN):
        end = min(begin + _RUN, count)
        done = _many_q8_0(bits, begin, end, out, inverses, halves)
        bad = _some_q8_0(bits, done, end, out)
        if bad >= 0:
            return bad
    return -1


@njit
def _some_q4_0(bits: Any, begin: Any, end: Any, out: Any) -> Any:
    for block in range(begin, end):
        at, to = block * LANES, block * 18
        scale = _signed_peak(bits, at) / np.float32(-8)
        if not abs(scale) < _TOO_LARGE:
            return block
        put_word(out, to, to_half(scale))
        if abs(scale) > _TINY:
            _put_fours(bits, at, _ZERO, _ONE / scale, np.float32(8.5), out, to + 2)
        else:
            _fill(out, to + 2, to + 18, np.uint8(0x88) if scale == _ZERO else _NOTHING)
    return -1


@njit
def _many_q4_0(bits: Any, begin: Any, end: Any, out: Any, inverses: Any, halves: Any, codes: Any) -> Any:
    """The same for Q4_0. Codes are made for four blocks at once, so they can't go to their places at once."""
    end = _scaled_with_sign(bits, begin, end, np.float32(-8), inverses, halves)
    for block in range(begin, end, FOUR):
        at = block - begin
        four_times_four_bits(bits, block, inverses, at, codes, at * 16)
    for block in range(begin, end):
        at, to = block - begin, block * 18
        put_word(out, to, np.uint32(halves[at]))
        copy_sixteen(codes, at * 16, out, to + 2)
    return end


def q4_0(bits: Any, out: Any) -> Any:
    count = bits.size // LANES
    inverses, halves = np.empty(_RUN, np.float32), np.empty(_RUN, np.uint16)
    codes = np.empty(_RUN * 16, np.uint8)
    for begin in range(0, count, _RUN):
        end = min(begin + _RUN, count)
        done = _many_q4_0(bits, begin, end, out, inverses, halves, codes)
        bad = _some_q4_0(bits, done, end, out)
        if bad >= 0:
            return bad
    return -1


@njit
def _some_q5_0(bits: Any, begin: Any, end: Any, out: Any) -> Any:
    for block in range(begin, end):
        at, to = block * LANES, block * 22
        scale = _signed_peak(bits, at) / np.float32(-16)
        if not abs(scale) < _TOO_LARGE:
            return block
        put_word(out, to, to_half(scale))
        if abs(scale) > _TINY:
            _put_fives(bits, at, _ZERO, _ONE / scale, np.float32(16.5), out, to + 2)
        else:
            _fill(out, to + 2, to + 6, np.uint8(0xFF) if scale == _ZERO else _NOTHING)
            _fill(out, to + 6, to + 22, _NOTHING)
    return -1


@njit
def _many_q5_0(bits: Any, begin: Any, end: Any, out: Any, inverses: Any, halves: Any) -> Any:
    """The same for Q5_0."""
    end = _scaled_with_sign(bits, begin, end, np.float32(-16), inverses, halves)
    for block in range(begin, end):
        at, to = block - begin, block * 22
        put_word(out, to, np.uint32(halves[at]))
        _put_fives(bits, block * LANES, _ZERO, inverses[at], np.float32(16.5), out, to + 2)
    return end


def q5_0(bits: Any, out: Any) -> Any:
    count = bits.size // LANES
    inverses, halves = np.empty(_RUN, np.float32), np.empty(_RUN, np.uint16)
    for begin in range(0, count, _RUN):
        end = min(begin + _RUN, count)
        done = _many_q5_0(bits, begin, end, out, inverses, halves)
        bad = _some_q5_0(bits, done, end, out)
        if bad >= 0:
            return bad
    return -1


def q4_1(bits: Any, out: Any) -> Any:
    for block in range(bits.size // LANES):
        at, to = block * LANES, block * 20
        least, most = _extremes(bits, at)
        low = _smallest(bits, at, least)
        scale = (most - low) / np.float32(15)
        if not (scale < _TOO_LARGE and abs(low) < _TOO_LARGE):
            return block
        put_word(out, to, to_half(scale))
        put_word(out, to + 2, to_half(low))
        if scale > _TINY:
            _put_fours(bits, at, low, _ONE / scale, np.float32(0.5), out, to + 4)
        else:
            _fill(out, to + 4, to + 20, _NOTHING)
    return -1


def q5_1(bits: Any, out: Any) -> Any:
    for block in range(bits.size // LANES):
        at, to = block * LANES, block * 24
        least, most = _extremes(bits, at)
        low = _smallest(bits, at, least)
        scale = (most - low) / np.float32(31)
        if not (scale < _TOO_LARGE and abs(low) < _TOO_LARGE):
            return block
        put_word(out, to, to_half(scale))
        put_word(out, to + 2, to_half(low))
        if scale > _TINY:
            _put_fives(bits, at, low, _ONE / scale, np.float32(0.5), out, to + 4)
        else:
            _fill(out, to + 4, to + 24, _NOTHING)
    return -1

"""The codes of the k-quants, and how they lie in bytes: the part of the work that goes along a block, not across.

Codes are found in the order of the weights, 32 at a time, and wait in a buffer of 256 bytes until the superblock that
they belong to is written.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tokenmill.quant.kernels.k_lanes import Vector
from tokenmill.quant.kernels.lanes import BYTES, I32, LANES, NUMBERS, load, numbers, pointer, splat, spread, store


@intrinsic
def put_affine(
    typing: Any, codes: Any, to: Any, bits: Any, at: Any, step: Any, low: Any, inverse: Any, start: Any, highest: Any
) -> Any:
    """The codes of one block of 32 for its final step; those of the search where the step is zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = signature.args[2]
        x = Vector(builder, numbers(builder, array, load(context, builder, array, arguments[2:4])))
        step, low, inverse, start, highest = (x.of(spread(builder, argument)) for argument in arguments[4:])
        zero = x.constant(0.0)
        code = (inverse * (x - start)).where(step.is_("==", zero), (x + low) / step).code(zero, highest)
        _keep(context, builder, signature, arguments, code)

    number = types.float32
    return types.void(codes, types.intp, bits, types.intp, number, number, number, number, number), generate


@intrinsic
def put_symmetric(typing: Any, codes: Any, to: Any, bits: Any, at: Any, known: Any, block: Any) -> Any:
    """The codes, 32 more than they are, of two blocks of 16 that begin with `block`.

    `known` has the steps of the 16 blocks, then what the search multiplied weights with and what it added, which
    count where the step is zero.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = signature.args[2]
        x = Vector(builder, numbers(builder, array, load(context, builder, array, arguments[2:4])))
        step, inverse, more = (
            x.of(_two_halves(context, builder, signature.args[4], arguments[4:], row)) for row in range(3)
        )
        code = (inverse * x + more).where(step.is_("==", x.constant(0.0)), x / step)
        code = code.code(x.constant(-32.0), x.constant(31.0)) + x.constant(32.0)
        _keep(context, builder, signature, arguments, code)

    return types.void(codes, types.intp, bits, types.intp, known, types.intp), generate


def _keep(context: Any, builder: Any, signature: Any, arguments: Any, code: Vector) -> None:
    store(context, builder, signature.args[0], arguments, builder.fptoui(code.value, BYTES))


def _two_halves(context: Any, builder: Any, array: Any, arguments: Any, row: int) -> Any:
    """Two numbers that lie side by side, each in 16 lanes."""
    place = builder.add(arguments[1], ir.Constant(arguments[1].type, 16 * row))
    pair = ir.VectorType(NUMBERS.element, 2)
    two = builder.load(pointer(context, builder, array, (arguments[0], place), pair), align=4)
    mask = ir.Constant(ir.VectorType(I32, LANES), [lane // 16 for lane in range(LANES)])
    return builder.shuffle_vector(two, ir.Constant(pair, ir.Undefined), mask)


@intrinsic
def put_nibbles(typing: Any, out: Any, to: Any, codes: Any, first: Any, second: Any) -> Any:
    """The low four bits of 32 codes, and above them those of 32 others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low, high = (_codes(context, builder, signature, arguments, place) for place in arguments[3:])
        low = builder.and_(low, splat(BYTES, 15))
        store(context, builder, signature.args[0], arguments, builder.or_(low, builder.shl(high, splat(BYTES, 4))))

    return types.void(out, types.intp, codes, types.intp, types.intp), generate


@intrinsic(prefer_literal=True)
def put_high_bits(typing: Any, out: Any, to: Any, codes: Any, first: Any, width: Any) -> Any:
    """Bits 4 and up, `width` of them, of rows of 32 codes that fill 32 bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = signature.args[4].literal_value
        whole = splat(BYTES, 0)
        for row in range(8 // bits):
            place = builder.add(arguments[3], ir.Constant(arguments[3].type, row * LANES))
            codes_ = _codes(context, builder, signature, arguments, place)
            high = builder.lshr(codes_, splat(BYTES, 4))
            whole = builder.or_(whole, builder.shl(high, splat(BYTES, row * bits)))
        store(context, builder, signature.args[0], arguments, whole)

    return types.void(out, types.intp, codes, types.intp, width), generate


def _codes(context: Any, builder: Any, signature: Any, arguments: Any, place: Any) -> Any:
    return builder.load(pointer(context, builder, signature.args[2], (arguments[2], place), BYTES), align=1)

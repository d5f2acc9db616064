"""Steps on 32 weights at once, written as vector instructions of LLVM.

Numba unrolls a loop over 32 weights and then fails to turn a maximum or a packing of nibbles into vector instructions;
these steps say what is meant. LLVM cuts the vectors into what the processor has, so they run on any. An array holds
weights as bits: unsigned 16 for BF16, signed 16 for F16, unsigned 32 for F32. Nothing here allows the compiler to
change a rounding.
"""

from __future__ import annotations

import platform
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 32

I8, I16, I32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
FLOAT = ir.FloatType()
BYTES, WORDS, NUMBERS = ir.VectorType(I8, LANES), ir.VectorType(I32, LANES), ir.VectorType(FLOAT, LANES)

#: Bits of a positive infinity: a magnitude from here on is no number.
INFINITY = 0x7F80_0000


def _has_half_instruction() -> bool:
    if platform.machine().lower() in ("aarch64", "arm64"):
        return True
    return bool(llvm.get_host_cpu_features().get("f16c", False))


#: Whether the processor itself turns F16 into F32 and back. LLVM would call a function for it that may not be there.
HAS_HALVES = _has_half_instruction()


def splat(kind: ir.VectorType, number: float | int) -> ir.Constant:
    """The same number in every lane."""
    return ir.Constant(kind, [number] * kind.count)


def spread(builder: Any, scalar: Any, lanes: int = LANES) -> Any:
    """A scalar known only when the kernel runs, in every lane."""
    kind = ir.VectorType(scalar.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), splat(ir.VectorType(I32, lanes), 0))


def pointer(context: Any, builder: Any, array: Any, arguments: Any, kind: Any) -> Any:
    """The address of element `arguments[1]` of the array `arguments[0]`, as an address of `kind`."""
    start = context.make_array(array)(context, builder, arguments[0]).data
    return builder.bitcast(builder.gep(start, [arguments[1]]), kind.as_pointer())


def load(context: Any, builder: Any, array: Any, arguments: Any) -> Any:
    """32 weights as bits."""
    kind = ir.VectorType(I32 if array.dtype == types.uint32 else I16, LANES)
    return builder.load(pointer(context, builder, array, arguments, kind), align=1)


def numbers(builder: Any, array: Any, bits: Any) -> Any:
    """Weights as F32, exactly."""
    if array.dtype == types.uint32:
        return builder.bitcast(bits, NUMBERS)
    wide = builder.zext(bits, WORDS)
    if array.dtype == types.uint16:
        return builder.bitcast(builder.shl(wide, splat(WORDS, 16)), NUMBERS)
    if HAS_HALVES:
        return builder.fpext(builder.bitcast(bits, ir.VectorType(ir.HalfType(), LANES)), NUMBERS)
    sign = builder.shl(builder.and_(wide, splat(WORDS, 0x8000)), splat(WORDS, 16))
    magnitude = builder.shl(builder.and_(wide, splat(WORDS, 0x7FFF)), splat(WORDS, 13))
    scaled = builder.fmul(builder.bitcast(magnitude, NUMBERS), splat(NUMBERS, 2.0**112))
    return builder.bitcast(builder.or_(builder.bitcast(scaled, WORDS), sign), NUMBERS)


def apart(builder: Any, array: Any, bits: Any) -> tuple[Any, Any]:
    """The weights at even and at odd places as F32. Two BF16 lie in one 32-bit word: neither needs to be moved to a
    lane of its own, which only one unit of the processor can do.
    """
    half = LANES // 2
    if array.dtype == types.uint16:
        both = builder.bitcast(bits, ir.VectorType(I32, half))
        even, odd = builder.shl(both, splat(both.type, 16)), builder.and_(both, splat(both.type, 0xFFFF_0000))
        return builder.bitcast(even, ir.VectorType(FLOAT, half)), builder.bitcast(odd, ir.VectorType(FLOAT, half))
    all_ = numbers(builder, array, bits)
    places = (ir.Constant(ir.VectorType(I32, half), list(range(first, LANES, 2))) for first in (0, 1))
    even, odd = (builder.shuffle_vector(all_, all_, place) for place in places)
    return even, odd


def call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """A call of one of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def store(context: Any, builder: Any, array: Any, arguments: Any, value: Any) -> None:
    """Writes a vector or a word into bytes."""
    builder.store(value, pointer(context, builder, array, arguments, value.type), align=1)


def magnitudes(builder: Any, raw: Any) -> Any:
    """Bits of weights without their signs, in the order of their magnitudes."""
    return builder.and_(raw, splat(raw.type, 0x7FFF_FFFF if raw.type.element == I32 else 0x7FFF))


def top_of(builder: Any, array: Any, magnitude: Any) -> Any:
    """Bits, as F32, of the largest of 32 magnitudes; `INFINITY` or more if it is no number."""
    wide = magnitude.type.element == I32
    top = call(builder, f"llvm.vector.reduce.umax.v32i{32 if wide else 16}", magnitude.type.element, magnitude)
    if wide:
        return top
    top = builder.zext(top, I32)
    if array.dtype == types.uint16:
        return builder.shl(top, ir.Constant(I32, 16))
    number = builder.bitcast(builder.shl(top, ir.Constant(I32, 13)), FLOAT)
    scaled = builder.bitcast(builder.fmul(number, ir.Constant(FLOAT, 2.0**112)), I32)
    fine = builder.icmp_unsigned("<", top, ir.Constant(I32, 0x7C00))
    return builder.select(fine, scaled, ir.Constant(I32, INFINITY))


@intrinsic
def peak(typing: Any, bits: Any, at: Any) -> Any:
    """Bits, as F32, of the largest magnitude of 32 weights; `INFINITY` or more if one is no number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = signature.args[0]
        return top_of(builder, array, magnitudes(builder, load(context, builder, array, arguments)))

    return types.uint32(bits, types.intp), generate


@intrinsic
def highest(typing: Any, bits: Any, start: Any, end: Any) -> Any:
    """The same of the weights from `start` to `end`, by 32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, (source, start, end) = signature.args[0], arguments
        kind = ir.VectorType(I32 if array.dtype == types.uint32 else I16, LANES)
        most = cgutils.alloca_once_value(builder, splat(kind, 0))
        with cgutils.for_range_slice(builder, start, end, ir.Constant(start.type, LANES), start.type) as (at, _):
            each = magnitudes(builder, load(context, builder, array, [source, at]))
            name = f"llvm.umax.v32i{kind.element.width}"
            builder.store(call(builder, name, kind, builder.load(most), each), most)
        return top_of(builder, array, builder.load(most))

    return types.uint32(bits, types.intp, types.intp), generate


def _sign_of_first(zero: bool) -> Any:
    def sign(typing: Any, bits: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            raw = load(context, builder, signature.args[0], arguments)
            magnitude, nothing = magnitudes(builder, raw), splat(raw.type, 0)
            name = f"llvm.vector.reduce.umax.v32i{raw.type.element.width}"
            wanted = nothing if zero else spread(builder, call(builder, name, raw.type.element, magnitude))
            equal = builder.bitcast(builder.icmp_unsigned("==", magnitude, wanted), I32)
            negative = builder.bitcast(builder.icmp_signed("<", raw, nothing), I32)
            found = builder.and_(negative, builder.and_(equal, builder.neg(equal)))
            return builder.select(builder.icmp_unsigned("!=", found, ir.Constant(I32, 0)), _SIGN, ir.Constant(I32, 0))

        return types.uint32(bits, types.intp), generate

    return intrinsic(sign)


_SIGN = ir.Constant(I32, 0x8000_0000)

#: The sign bit, as F32, of the first of 32 weights that has the largest magnitude, and of the first zero among them.
sign_of_first_peak, sign_of_first_zero = _sign_of_first(zero=False), _sign_of_first(zero=True)


@intrinsic
def as_number(typing: Any, bits: Any) -> Any:
    """The F32 that has these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], FLOAT)

    return types.float32(types.uint32), generate


@intrinsic
def as_bits(typing: Any, number: Any) -> Any:
    """The bits of an F32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], I32)

    return types.uint32(types.float32), generate


@intrinsic
def put_word(typing: Any, out: Any, to: Any, word: Any) -> Any:
    """Writes the low 16 bits of `word`, the lower byte first."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        store(context, builder, signature.args[0], arguments, builder.trunc(arguments[2], I16))

    return types.void(out, types.intp, types.uint32), generate


@intrinsic
def _truncate_to_half(typing: Any, number: Any) -> Any:
    """The bits of the nearest F16, by the processor's own instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), I16), I32)

    return types.uint32(types.float32), generate


@njit(inline="always")
def _round_to_half(number: Any) -> Any:
    """The same by integer arithmetic, for processors without the instruction; `number` isn't too large."""
    bits = as_bits(number)
    sign = (bits >> np.uint32(16)) & np.uint32(0x8000)
    magnitude = bits & np.uint32(0x7FFF_FFFF)
    if magnitude < np.uint32(0x3880_0000):  # below the smallest normal F16: an addition rounds at the right place
        small = as_bits(as_number(magnitude) + np.float32(0.5)) - np.uint32(0x3F00_0000)
        return np.uint32(sign | small)
    odd = (magnitude >> np.uint32(13)) & np.uint32(1)
    return np.uint32(sign | ((magnitude + np.uint32(0xC800_0FFF) + odd) & np.uint32(0xFFFF_FFFF)) >> np.uint32(13))


#: The bits of the F16 nearest to an F32 that is not too large.
to_half = _truncate_to_half if HAS_HALVES else _round_to_half

"""Sixteen blocks of 32 BF16 weights at once: what a block needs one of, such as a scale, is made for all of them by the
vector instruction that would have made one.

A 32-bit word holds two BF16, so sixteen words are a block, and a shift and a mask take its even and its odd weights
apart. These steps make what the loops over single blocks make, and leave to those loops all that is rare: weights of
other types, and blocks that can't be written or have a scale whose inverse is infinite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tokenmill.quant.kernels.lanes import FLOAT, HAS_HALVES, I8, I16, I32, call, pointer, splat, spread, store

#: Blocks that get their scales together, which is also the number of words of a block.
SIXTEEN = 16
#: Blocks that get their codes together where they have four bits.
FOUR = 4
#: The smallest magnitude that rounds to an infinite F16.
TOO_LARGE = 65520.0
#: The largest scale whose inverse is infinite: all codes are those of nothing, as the reference says.
TINY = 2.0**-128

_WORDS, _NUMBERS = ir.VectorType(I32, SIXTEEN), ir.VectorType(FLOAT, SIXTEEN)
_PAIRS, _BYTES = ir.VectorType(I16, SIXTEEN * 2), ir.VectorType(I8, SIXTEEN * 4)
_ODD = 0xFFFF_0000

Places = tuple[list[int], list[int]]
#: Gives the words of the n-th of some blocks.
Words = Callable[[int], Any]


def _within(lanes: tuple[int, ...]) -> list[int]:
    return [four + lane for four in range(0, 16, 4) for lane in lanes]


def _fours(starts: tuple[int, ...]) -> list[int]:
    return [start + lane for start in starts for lane in range(4)]


#: Which lanes of two vectors are held against each other: some within every four lanes, or fours of lanes.
_WITHIN: Places = (_within((0, 16, 1, 17)), _within((2, 18, 3, 19)))
_FOURS: Places = (_fours((0, 8, 16, 24)), _fours((4, 12, 20, 28)))


def _moved(builder: Any, some: Any, others: Any, places: list[int]) -> Any:
    """The lanes at `places` of two vectors."""
    return builder.shuffle_vector(some, others, ir.Constant(ir.VectorType(I32, len(places)), places))


def _extreme(builder: Any, name: str, some: Any, others: Any, kind: ir.VectorType) -> Any:
    """The smaller or the larger of each two lanes of vectors taken as `kind`."""
    same = (builder.bitcast(each, kind) for each in (some, others))
    found = call(builder, f"llvm.{name}.v{kind.count}i{kind.element.width}", kind, *same)
    return builder.bitcast(found, some.type)


def _most_of_each(builder: Any, vectors: Words, kind: ir.VectorType) -> Any:
    """Lane `n` is the largest of the sixteen lanes of `vectors(n)`; lanes of two numbers have two largest ones.

    Two vectors of which only the largest lanes count become one, with half as many lanes for each: all sixteen take 15
    maxima, and not four each.
    """

    def merged(some: Any, others: Any, places: Places) -> Any:
        first, second = (_moved(builder, some, others, each) for each in places)
        return _extreme(builder, "umax", first, second, kind)

    def four(first: int) -> Any:
        even, odd = (merged(vectors(first + each), vectors(first + each + 2), _WITHIN) for each in (0, 1))
        return merged(even, odd, _WITHIN)

    low, high = (merged(four(first), four(first + 4), _FOURS) for first in (0, 8))
    return merged(low, high, _FOURS)


def _apart(builder: Any, words: Any) -> tuple[Any, Any]:
    """The even and the odd weights as bits of F32."""
    return builder.shl(words, splat(_WORDS, 16)), builder.and_(words, splat(_WORDS, _ODD))


def _turned(builder: Any, high: Any, low: Any, by: int) -> Any:
    """The upper of two words after both were moved up as one."""
    return call(builder, "llvm.fshl.v16i32", _WORDS, high, low, splat(_WORDS, by))


def _key(builder: Any, words: Any) -> Any:
    """Of each two weights the one that counts, as a word: its magnitude, how near to the front it is, its sign."""
    nearness = [list(range(2 * SIXTEEN - 1 - odd, -1, -2)) for odd in (0, 1)]
    even = _turned(builder, words, ir.Constant(_WORDS, [place << 16 for place in nearness[0]]), 16)
    odd = builder.or_(builder.and_(words, splat(_WORDS, _ODD)), ir.Constant(_WORDS, nearness[1]))
    even, odd = _turned(builder, even, even, 1), _turned(builder, odd, odd, 1)
    return _extreme(builder, "umax", even, odd, _WORDS)


def _signed_peaks(builder: Any, words: Words) -> Any:
    """Of each block the first weight of the largest magnitude; a block of zeros has no sign."""
    keys = _most_of_each(builder, lambda block: _key(builder, words(block)), _WORDS)
    magnitudes = builder.and_(builder.lshr(keys, splat(_WORDS, 1)), splat(_WORDS, 0x7FFF_0000))
    signed = builder.or_(magnitudes, builder.shl(keys, splat(_WORDS, 31)))
    nothing = splat(_WORDS, 0)
    return builder.select(builder.icmp_unsigned("==", magnitudes, nothing), nothing, signed)


def _peaks(builder: Any, words: Words) -> Any:
    """Of each block the largest magnitude; even and odd weights are held against each other at the end."""
    magnitudes = splat(_WORDS, 0x7FFF_7FFF)
    most = _most_of_each(builder, lambda block: builder.and_(words(block), magnitudes), _PAIRS)
    return _extreme(builder, "umax", *_apart(builder, most), _WORDS)


def _usable(builder: Any, scales: Any, zero: Any) -> Any:
    """Whether all blocks can be written, with an inverse that is finite or that nothing asks for."""
    magnitudes = builder.and_(builder.bitcast(scales, _WORDS), splat(_WORDS, 0x7FFF_FFFF))
    sizes = builder.bitcast(magnitudes, _NUMBERS)
    small = builder.fcmp_ordered("<", sizes, splat(_NUMBERS, TOO_LARGE))
    large = builder.fcmp_ordered(">", sizes, splat(_NUMBERS, TINY))
    each = builder.bitcast(builder.and_(small, builder.or_(large, zero)), I16)
    return builder.icmp_unsigned("==", each, ir.Constant(I16, 0xFFFF))


def _load(context: Any, builder: Any, array: Any, arguments: Any) -> Words:
    """The words of the n-th block after block `arguments[1]` of the weights `arguments[0]`."""
    source, first = arguments

    def words(block: int) -> Any:
        at = builder.mul(builder.add(first, ir.Constant(first.type, block)), ir.Constant(first.type, 2 * SIXTEEN))
        return builder.load(pointer(context, builder, array, [source, at], _WORDS), align=1)

    return words


def _scales(peaks: Callable[[Any, Words], Any]) -> Any:
    def put(typing: Any, bits: Any, block: Any, most: Any, inverses: Any, halves: Any, to: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source, block, most, inverses, halves, to = arguments
            if signature.args[0].dtype != types.uint16 or not HAS_HALVES:
                return ir.Constant(ir.IntType(1), 0)
            found = peaks(builder, _load(context, builder, signature.args[0], [source, block]))
            scales = builder.fdiv(builder.bitcast(found, _NUMBERS), spread(builder, most, SIXTEEN))
            zero = builder.fcmp_ordered("==", scales, splat(_NUMBERS, 0.0))
            inverse = builder.select(zero, splat(_NUMBERS, 0.0), builder.fdiv(splat(_NUMBERS, 1.0), scales))
            store(context, builder, signature.args[3], [inverses, to], inverse)
            half = builder.fptrunc(scales, ir.VectorType(ir.HalfType(), SIXTEEN))
            store(context, builder, signature.args[4], [halves, to], half)
            return _usable(builder, scales, zero)

        place = types.intp
        return types.boolean(bits, place, types.float32, inverses, halves, place), generate

    return intrinsic(put)


#: Puts one through the scale of each of sixteen blocks, zero for zero, and the scale as F16; says whether all of them
#: can be used. The largest magnitude, or the first weight that has it, becomes `most`.
sixteen_scales, sixteen_signed_scales = _scales(_peaks), _scales(_signed_peaks)


def _four_bits(builder: Any, words: Any, inverse: Any) -> tuple[Any, Any]:
    """Codes up to 16 of the even and of the odd weights."""

    def codes(weights: Any) -> Any:
        scaled = builder.fmul(builder.bitcast(weights, _NUMBERS), spread(builder, inverse, SIXTEEN))
        return builder.fptosi(builder.fadd(scaled, splat(_NUMBERS, 8.5)), _WORDS)

    even, odd = _apart(builder, words)
    return codes(even), codes(odd)


def _two_blocks(builder: Any, one: tuple[Any, Any], other: tuple[Any, Any]) -> Any:
    """Codes of two blocks as bytes, at most 15: two of one block, two of the other."""
    first, second, third, fourth = (
        builder.shl(codes, splat(_WORDS, 8 * at)) for at, codes in enumerate((*one, *other))
    )
    joined = builder.or_(builder.or_(first, second), builder.or_(third, fourth))
    return _extreme(builder, "umin", joined, splat(_WORDS, 0x0F0F_0F0F), _BYTES)


def _four_blocks(builder: Any, words: Words, inverse: Callable[[int], Any]) -> Any:
    """16 bytes for each of four blocks: code j in the low half of byte j, j + 16 in the high half."""
    codes = [_four_bits(builder, words(block), inverse(block)) for block in range(FOUR)]
    front, back = _two_blocks(builder, *codes[:2]), _two_blocks(builder, *codes[2:])
    low, high = (
        _moved(builder, front, back, [*range(start, start + 8), *range(start + 16, start + 24)]) for start in (0, 8)
    )
    nibbles = builder.bitcast(builder.or_(low, builder.shl(high, splat(_WORDS, 4))), _PAIRS)
    return _moved(builder, nibbles, nibbles, [start + at for start in (0, 1, 16, 17) for at in range(0, 16, 2)])


@intrinsic
def four_times_four_bits(typing: Any, bits: Any, block: Any, inverses: Any, at: Any, codes: Any, to: Any) -> Any:
    """The codes of Q4_0 of four BF16 blocks whose inverses stand at `at`, 16 bytes each."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = _load(context, builder, signature.args[0], arguments[:2])

        def inverse(block: int) -> Any:
            here = builder.add(arguments[3], ir.Constant(arguments[3].type, block))
            return builder.load(pointer(context, builder, signature.args[2], [arguments[2], here], FLOAT), align=4)

        store(context, builder, signature.args[4], arguments[4:], _four_blocks(builder, words, inverse))

    return types.void(bits, types.intp, inverses, types.intp, codes, types.intp), generate


@intrinsic
def copy_sixteen(typing: Any, source: Any, at: Any, out: Any, to: Any) -> Any:
    """Copies 16 bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = pointer(context, builder, signature.args[0], arguments[:2], ir.VectorType(I8, 16))
        store(context, builder, signature.args[2], arguments[2:], builder.load(place, align=1))

    return types.void(source, types.intp, out, types.intp), generate

"""The searches of the k-quants in 32 lanes: one block of weights to a lane.

A sum over a block must be taken in ggml's order, one weight after the other, so the weights of one block can't share a
vector. 32 blocks side by side can: row i of a tile [32, 32] holds weight i of each block, and every lane sums alone.
For Q4_K and Q5_K a lane is a block of 32; for Q6_K the upper and the lower 16 rows of the tile are searched apart.

What a search knows of each lane stands in rows of a state [rows, 32], so that the steps can be called one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tokenmill.quant.kernels.k_candidates import MAGIC, TINY
from tokenmill.quant.kernels.lanes import I32, LANES, NUMBERS, WORDS, call, load, numbers, splat, spread

#: Rows of the state of a search.
SCALE, LOW, HIGH, ERROR, TOTAL, TOTAL_X, CODES_INVERSE, CODES_LOW, FLAT = range(9)
#: Rows of the state of a search of Q6_K; `PEAK` is the largest weight with its sign.
PEAK, BEST = 2, 3
STATE_ROWS = 9

NEAREST, SMALLEST = float(MAGIC), float(TINY)


class Vector:
    """A number in each lane. Each operation is one instruction and rounds by itself."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def of(self, value: Any) -> Vector:
        return Vector(self.builder, value)

    def constant(self, number: float) -> Vector:
        return self.of(splat(NUMBERS, number))

    def __add__(self, other: Vector) -> Vector:
        return self.of(self.builder.fadd(self.value, other.value))

    def __sub__(self, other: Vector) -> Vector:
        return self.of(self.builder.fsub(self.value, other.value))

    def __mul__(self, other: Vector) -> Vector:
        return self.of(self.builder.fmul(self.value, other.value))

    def __truediv__(self, other: Vector) -> Vector:
        return self.of(self.builder.fdiv(self.value, other.value))

    def __abs__(self) -> Vector:
        return self.of(call(self.builder, f"llvm.fabs.v{LANES}f32", NUMBERS, self.value))

    def root(self) -> Vector:
        return self.of(call(self.builder, f"llvm.sqrt.v{LANES}f32", NUMBERS, self.value))

    def is_(self, relation: str, other: Vector) -> Any:
        """Where this is `<`, `>` or `==` the other; nothing holds for what is no number."""
        return self.builder.fcmp_ordered(relation, self.value, other.value)

    def where(self, mask: Any, otherwise: Vector) -> Vector:
        return self.of(self.builder.select(mask, self.value, otherwise.value))

    def code(self, lowest: Vector, highest: Vector) -> Vector:
        """The nearest integer between two bounds, found in the low bits as ggml finds it.

        Replacing the exponent before the bounds are applied makes it right for every number: what is too large, or
        none, has the low bits that ggml sees.
        """
        builder = self.builder
        bits = builder.bitcast((self + self.constant(NEAREST)).value, WORDS)
        bits = builder.or_(builder.and_(bits, splat(WORDS, 0x7F_FFFF)), splat(WORDS, 0x4B00_0000))
        found = self.of(builder.bitcast(bits, NUMBERS))
        nearest = self.constant(NEAREST)
        floor, roof = nearest + lowest, nearest + highest
        found = found.where(found.is_(">", floor), floor)
        found = found.where(found.is_("<", roof), roof)
        return found - nearest


class Rows:
    """Vectors that lie one after the other in a flat array of F32."""

    def __init__(self, context: Any, builder: Any, array: Any, argument: Any) -> None:
        start = context.make_array(array)(context, builder, argument).data
        self.builder, self.start = builder, builder.bitcast(start, NUMBERS.as_pointer())

    def _at(self, row: int) -> Any:
        return self.builder.gep(self.start, [ir.Constant(I32, row)])

    def __getitem__(self, row: int) -> Vector:
        return Vector(self.builder, self.builder.load(self._at(row), align=4))

    def __setitem__(self, row: int, vector: Vector) -> None:
        self.builder.store(vector.value, self._at(row), align=4)


def opened(context: Any, builder: Any, signature: Any, arguments: Any, count: int) -> list[Rows]:
    """The first arguments as rows."""
    pairs = zip(signature.args[:count], arguments[:count], strict=True)
    return [Rows(context, builder, array, argument) for array, argument in pairs]


def transposed(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """32 vectors of 32 with rows and columns exchanged: five rounds of riffling the upper half into the lower."""
    half, count = LANES // 2, LANES
    low = ir.Constant(WORDS, [lane // 2 + (count if lane % 2 else 0) for lane in range(count)])
    high = ir.Constant(WORDS, [lane // 2 + half + (count if lane % 2 else 0) for lane in range(count)])
    now = list(rows)
    for _ in range(count.bit_length() - 1):
        pairs = [(now[i], now[i + half]) for i in range(half)]
        now = [builder.shuffle_vector(a, b, mask) for a, b in pairs for mask in (low, high)]
    return now


@intrinsic
def load_tile(typing: Any, tile: Any, bits: Any, at: Any) -> Any:
    """Puts 1024 weights into a tile, block by block into its columns; true if one of them is no number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = signature.args[1]
        rows, worst = [], None
        exponent = {types.uint16: 0x7F80, types.int16: 0x7C00, types.uint32: 0x7F80_0000}[array.dtype]
        for row in range(LANES):
            place = builder.add(arguments[2], ir.Constant(arguments[2].type, row * LANES))
            raw = load(context, builder, array, (arguments[1], place))
            bad = builder.icmp_unsigned("==", builder.and_(raw, splat(raw.type, exponent)), splat(raw.type, exponent))
            worst = bad if worst is None else builder.or_(worst, bad)
            rows.append(numbers(builder, array, raw))
        target = Rows(context, builder, signature.args[0], arguments[0])
        for row, value in enumerate(transposed(builder, rows)):
            target[row] = Vector(builder, value)
        return builder.icmp_unsigned("!=", builder.bitcast(worst, I32), ir.Constant(I32, 0))

    return types.boolean(tile, bits, types.intp), generate


@intrinsic
def begin_affine(typing: Any, tile: Any, importance: Any, state: Any, highest: Any) -> Any:
    """Weighs the weights, and takes the whole range of each block for its first scale."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, weight, known = opened(context, builder, signature, arguments, 3)
        zero = Vector(builder, splat(NUMBERS, 0.0))
        top = zero.of(spread(builder, arguments[3]))
        mean = (_total(x[i] * x[i] for i in range(LANES)) / zero.constant(32.0)).root()
        low = high = x[0]
        for i in range(LANES):
            low, high = x[i].where(x[i].is_("<", low), low), x[i].where(x[i].is_(">", high), high)
            weight[i] = mean + abs(x[i])
        low = zero.where(low.is_(">", zero), low)
        inverse = top / (high - low)
        scale = zero.constant(1.0) / inverse
        known[SCALE], known[LOW], known[HIGH] = scale, low, high
        known[TOTAL] = _total(weight[i] for i in range(LANES))
        known[TOTAL_X] = _total(weight[i] * x[i] for i in range(LANES))
        known[ERROR] = _error(x, weight, scale, low, lambda i: (inverse * (x[i] - low)).code(zero, top))
        flat = high.is_("==", low)
        known[FLAT] = zero.constant(1.0).where(flat, zero)
        known[CODES_INVERSE], known[CODES_LOW] = zero.where(flat, inverse), low

    return types.void(tile, importance, state, types.float32), generate


@intrinsic
def try_affine(typing: Any, tile: Any, importance: Any, codes: Any, state: Any, highest: Any, numerator: Any) -> Any:
    """Rounds with one candidate, fits a line through the codes, and keeps it where it is better than the best."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, weight, code, known = opened(context, builder, signature, arguments, 4)
        zero = Vector(builder, splat(NUMBERS, 0.0))
        top, numerator = (zero.of(spread(builder, argument)) for argument in arguments[4:])
        low, total, total_x = known[LOW], known[TOTAL], known[TOTAL_X]
        inverse = numerator / (known[HIGH] - low)
        by_code = by_square = by_weight = zero
        for i in range(LANES):
            value = x[i]
            found = (inverse * (value - low)).code(zero, top)
            weighted = weight[i] * found
            by_code, by_square = by_code + weighted, by_square + weighted * found
            by_weight = by_weight + weighted * value
            code[i] = found
        apart = total * by_square - by_code * by_code
        scale = (total * by_weight - total_x * by_code) / apart
        start = (by_square * total_x - by_code * by_weight) / apart
        above = start.is_(">", zero)
        scale, start = (by_weight / by_square).where(above, scale), zero.where(above, start)
        error = _error(x, weight, scale, start, lambda i: code[i])
        better = builder.and_(apart.is_(">", zero), error.is_("<", known[ERROR]))
        found_now = {SCALE: scale, LOW: start, ERROR: error, CODES_INVERSE: inverse, CODES_LOW: low}
        for row, value in found_now.items():
            known[row] = value.where(better, known[row])

    return types.void(tile, importance, codes, state, types.float32, types.float32), generate


def _total(terms: Iterable[Vector]) -> Vector:
    return reduce(Vector.__add__, terms)


def _error(x: Rows, weight: Rows, scale: Vector, start: Vector, code: Callable[[int], Vector]) -> Vector:
    error = start.constant(0.0)
    for i in range(LANES):
        miss = scale * code(i) + start - x[i]
        error = error + weight[i] * (miss * miss)
    return error


@intrinsic
def begin_symmetric(typing: Any, tile: Any, squares: Any, cubes: Any, state: Any) -> Any:
    """Finds the largest weight of each block of 16, and the scale that gives it the lowest code."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, square, cube, known = opened(context, builder, signature, arguments, 4)
        zero = Vector(builder, splat(NUMBERS, 0.0))
        size = peak = zero
        for i in range(LANES // 2):
            larger = abs(x[i]).is_(">", size)
            size, peak = abs(x[i]).where(larger, size), x[i].where(larger, peak)
            square[i] = x[i] * x[i]
            cube[i] = square[i] * x[i]
        inverse = zero.constant(-32.0) / peak
        by_weight, by_square = _explained(x, square, cube, inverse)
        nothing = by_square.is_("==", zero)
        scale = zero.where(nothing, by_weight / by_square)
        flat = size.is_("<", zero.constant(SMALLEST))
        known[SCALE], known[BEST], known[PEAK], known[CODES_INVERSE] = scale, scale * by_weight, peak, inverse
        known[FLAT] = zero.constant(1.0).where(flat, zero)

    return types.void(tile, squares, cubes, state), generate


@intrinsic
def try_symmetric(typing: Any, tile: Any, squares: Any, cubes: Any, state: Any, numerator: Any) -> Any:
    """Rounds with one candidate and keeps it where it explains more than the best."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, square, cube, known = opened(context, builder, signature, arguments, 4)
        zero = Vector(builder, splat(NUMBERS, 0.0))
        inverse = zero.of(spread(builder, arguments[4])) / known[PEAK]
        by_weight, by_square = _explained(x, square, cube, inverse)
        more = (by_weight * by_weight).is_(">", known[BEST] * by_square)
        better = builder.and_(by_square.is_(">", zero), more)
        scale = by_weight / by_square
        for row, value in {SCALE: scale, BEST: scale * by_weight, CODES_INVERSE: inverse}.items():
            known[row] = value.where(better, known[row])

    return types.void(tile, squares, cubes, state, types.float32), generate


def _explained(x: Rows, square: Rows, cube: Rows, inverse: Vector) -> tuple[Vector, Vector]:
    low, high = inverse.constant(-32.0), inverse.constant(31.0)
    by_weight = by_square = inverse.constant(0.0)
    for i in range(LANES // 2):
        code = (inverse * x[i]).code(low, high)
        by_weight = by_weight + cube[i] * code
        by_square = by_square + square[i] * code * code
    return by_weight, by_square

"""Rows of weights that tempt an encoder to err: zeros of both signs, subnormals, ties, outliers, equal weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenmill.quant.encoding import Bits
from tokenmill.quant.floats import narrow, widen

ELEMENTS = ("BF16", "F16", "F32")

Numbers = NDArray[np.float32]


def _plain(rng: np.random.Generator, count: int) -> Numbers:
    return rng.standard_normal(count).astype(np.float32) * np.float32(10.0 ** rng.integers(-6, 3))


def _zeros(rng: np.random.Generator, count: int) -> Numbers:
    return np.where(rng.random(count) < 0.5, np.float32(0), -np.float32(0)).astype(np.float32)


def _tiny(rng: np.random.Generator, count: int) -> Numbers:
    """Subnormal numbers and those just above, among zeros."""
    whole = rng.integers(0, 1 << int(rng.integers(1, 27)), count).astype(np.uint32)
    return (whole | rng.integers(0, 2, count).astype(np.uint32) << 31).view(np.float32)


def _ties(rng: np.random.Generator, count: int) -> Numbers:
    """Halves of steps, so that rounding has to choose."""
    halves = rng.integers(-32, 33, count).astype(np.float32) / 2
    halves[rng.integers(count)] = rng.choice([-8, 8, 7.5, -7.5, 127, -127, 15, -16, 16])
    return halves * np.float32(2.0 ** rng.integers(-20, 4))


def _outlier(rng: np.random.Generator, count: int) -> Numbers:
    weights = rng.standard_normal(count).astype(np.float32) * np.float32(0.01)
    weights[rng.integers(count)] = rng.choice([-1, 1]) * 10.0 ** rng.integers(0, 9)
    return weights


def _equal(rng: np.random.Generator, count: int) -> Numbers:
    return np.full(count, rng.standard_normal(), np.float32)


def _two_peaks(rng: np.random.Generator, count: int) -> Numbers:
    """The same magnitude with both signs: the first one counts."""
    return rng.choice(np.array([-1, -0.5, 0, 0.5, 1], np.float32), count)


def _any_bits(rng: np.random.Generator, count: int) -> Numbers:
    numbers = rng.integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return np.where(np.isfinite(numbers), numbers, np.float32(0))


KINDS: tuple[Callable[[np.random.Generator, int], Numbers], ...] = (
    *(_plain, _zeros, _tiny, _ties, _outlier, _equal, _two_peaks, _any_bits),
)


def made(seed: int, kinds: list[int], group: int) -> Numbers:
    """One group of weights of each kind, one after the other."""
    rng = np.random.default_rng(seed)
    return np.concatenate([KINDS[kind](rng, group) for kind in kinds])


@st.composite
def weights(draw: st.DrawFn, group: int = 32, columns: int | None = None) -> tuple[str, Bits]:
    """The type and the bits of two rows; some hold what no encoding can store."""
    element = draw(st.sampled_from(ELEMENTS))
    kinds = draw(
        st.lists(st.integers(0, len(KINDS) - 1), min_size=2, max_size=6).filter(lambda some: len(some) % 2 == 0)
    )
    numbers = made(draw(st.integers(0, 1 << 32)), kinds, columns or group)
    with np.errstate(over="ignore"):
        bits = narrow(numbers, element)
    finite = np.isfinite(widen(bits, element))
    bits = np.where(finite, bits, bits.dtype.type(0))
    spoilt = draw(st.sampled_from([None, None, None, np.nan, np.inf, -np.inf]))
    if spoilt is not None:
        bits[draw(st.integers(0, bits.size - 1))] = narrow(np.full(1, spoilt, np.float32), element)[0]
    return element, bits.reshape(2, -1)

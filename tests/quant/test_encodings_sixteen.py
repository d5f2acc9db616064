"""Many BF16 blocks at once: the bytes of the reference and of ggml, and the same first block refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quant import ggml
from quant.awkward import KINDS, made
from quant.test_encodings import room
from quant.test_encodings_ggml import block_encoding
from requirements import require
from tokenmill.quant.floats import narrow, widen

NAMES = ("Q8_0", "Q4_0", "Q5_0")

Words = NDArray[np.uint16]

#: Kinds that every one of these encodings can write: sixteen of them in a row are done together.
_WRITABLE = [
    at for at, kind in enumerate(KINDS) if kind.__name__ in ("_plain", "_zeros", "_ties", "_equal", "_two_peaks")
]


@st.composite
def many_blocks(draw: st.DrawFn) -> Words:
    """Up to 600 blocks, mostly writable ones, among them up to two of any kind and one weight that tempts to err."""
    few = draw(st.lists(st.sampled_from(_WRITABLE), min_size=1, max_size=7))
    count = draw(st.integers(1, 600))
    kinds = (few * count)[:count]
    for at in draw(st.lists(st.integers(0, count - 1), max_size=2)):
        kinds[at] = draw(st.integers(0, len(KINDS) - 1))
    bits = narrow(made(draw(st.integers(0, 1 << 32)), kinds, 32), "BF16").astype(np.uint16)
    bits[~np.isfinite(widen(bits, "BF16"))] = 0
    for at in draw(st.lists(st.integers(0, bits.size - 1), max_size=1)):
        bits[at] = draw(st.sampled_from([0x7F80, 0xFF80, 0x7FC0, 0xFFFF, 0x7F7F, 0x0001, 0x8001]))
    return bits


def held_to_the_reference(name: str, bits: Words) -> int:
    """Which block is refused, -1 for none, once kernel and reference agree."""
    kind = block_encoding(name)
    fast, slow = room(kind, 1, bits.size), room(kind, 1, bits.size)
    place = kind.encode(bits[None], "BF16", fast, None)
    block = kind.encode_slowly(bits, "BF16", slow[0])
    assert place // 32 == block
    written = (bits.size // 32 if block < 0 else block) * kind.size
    assert fast[0][:written].tobytes() == slow[0][:written].tobytes()
    return block


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(bits=many_blocks())
def test_many_blocks_are_those_of_the_reference(name: str, bits: Words) -> None:
    """Kernel and reference refuse the same block and write the same bytes before it, however many blocks there are."""
    held_to_the_reference(name, bits)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=80, deadline=None)
@given(bits=many_blocks())
def test_many_blocks_are_those_of_ggml(name: str, bits: Words) -> None:
    """What can be written of many blocks is written as ggml's own library writes it."""
    require("ggml")
    block = held_to_the_reference(name, bits)
    bits = bits if block < 0 else bits[: block * 32]
    kind = block_encoding(name)
    out = room(kind, 1, bits.size)
    assert kind.encode(bits[None], "BF16", out, None) == -1
    if bits.size:
        assert out[0].tobytes() == ggml.encoded(name, widen(bits, "BF16")[None]).tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_every_magnitude_can_be_the_largest(name: str) -> None:
    """Each finite magnitude is the largest of some block, at each place and first with either sign; those from the
    smallest to the largest that can be written are written, and the next one is refused.
    """
    rng = np.random.default_rng(11)
    peaks = np.arange(0x7F80, dtype=np.uint16)
    bits = (rng.random((peaks.size, 32)) * (peaks[:, None] + 1.0)).astype(np.uint16)
    first, again = rng.integers(0, 32, (2, peaks.size))
    every = np.arange(peaks.size)
    bits[every, again] = peaks
    bits[every, first] = peaks
    bits |= rng.integers(0, 2, bits.shape, dtype=np.uint16) << np.uint16(15)
    refused = held_to_the_reference(name, bits.reshape(-1))
    assert 0 < refused < peaks.size
    assert held_to_the_reference(name, bits[:refused][::-1].reshape(-1)) == -1

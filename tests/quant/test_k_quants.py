"""Q4_K, Q5_K and Q6_K are byte for byte what ggml makes of the same weights, compiled or not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quant.ggml import encoded
from requirements import require
from tokenmill.quant.blocks import BlockEncoding
from tokenmill.quant.encodings import encoding
from tokenmill.quant.floats import narrow, widen

GOLDEN = Path(__file__).parent / "golden" / "k_quants.npz"
NAMES = ["Q4_K", "Q5_K", "Q6_K"]
ELEMENTS = ["BF16", "F16", "F32"]
Floats = NDArray[np.float32]

each_name = pytest.mark.parametrize("name", NAMES)


def k_quant(name: str) -> BlockEncoding:
    found = encoding(name)
    assert isinstance(found, BlockEncoding)
    return found


def compiled(name: str, bits: Any, element: str = "F32") -> tuple[int, NDArray[np.uint8]]:
    """What the kernel returns and writes for rows of bits."""
    out = np.zeros((len(bits), k_quant(name).row_sizes(bits.shape[1])[0]), dtype=np.uint8)
    return k_quant(name).encode(bits, element, (out,), None), out


def readable(name: str, weights: Floats) -> tuple[int, NDArray[np.uint8]]:
    """The same of the reference, whose first answer is a superblock."""
    out = np.zeros((len(weights), k_quant(name).row_sizes(weights.shape[1])[0]), dtype=np.uint8)
    return k_quant(name).encode_slowly(weights.view(np.uint32).reshape(-1), "F32", out.reshape(-1)), out


@st.composite
def blocks(draw: st.DrawFn) -> Floats:
    """16 weights: of one magnitude, a few values again and again, or close together far from zero."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = np.float32(10.0) ** draw(st.integers(-46, 7))
    match draw(st.sampled_from(["normal", "heavy", "whole", "few", "near", "one", "zero"])):
        case "normal":
            weights = random.standard_normal(16) * size
        case "heavy":
            weights = random.standard_t(2, 16) * size
        case "whole":  # many ties between two codes
            weights = random.integers(-32, 33, 16) * size
        case "few":
            values = draw(st.lists(st.floats(-(2.0**20), 2.0**20, width=32), min_size=1, max_size=5))
            weights = random.choice(values, 16)
        case "near":
            weights = (1 + random.integers(-9, 10, 16) * 2.0**-22) * size * draw(st.sampled_from([1, -1]))
        case "one":
            weights = np.where(np.arange(16) == random.integers(16), size, random.standard_normal(16) * size / 1e4)
        case _:
            weights = random.choice([0.0, -0.0], 16)
    return weights.astype(np.float32)


@st.composite
def superblocks(draw: st.DrawFn) -> Floats:
    """A few rows of 256: blocks of all kinds, of which some fill a block of 32 or the row."""
    few = draw(st.lists(blocks(), min_size=1, max_size=16))
    order = draw(st.lists(st.integers(0, len(few) - 1), min_size=16, max_size=16))
    mixed = np.concatenate([few[place] for place in order])
    again = [np.tile(block, 16) for block in few[:2]]
    return np.stack([mixed, *again, np.repeat(mixed[::8], 8), -mixed])


@each_name
def test_known_weights_give_known_bytes(name: str) -> None:
    """Both give the bytes that ggml gave once: tails, zeros, denormals, ties, constants and one huge outlier."""
    with np.load(GOLDEN) as golden:
        weights, expected = golden["weights"], golden[name]
    for place, out in (compiled(name, weights.view(np.uint32)), readable(name, weights)):
        assert place == -1
        assert np.array_equal(out, expected)


@each_name
def test_known_bytes_are_those_of_ggml(name: str) -> None:
    """The library of ggml gives the known bytes today."""
    require("ggml")
    with np.load(GOLDEN) as golden:
        assert np.array_equal(encoded(name, golden["weights"]), golden[name])


@each_name
@settings(max_examples=150, deadline=None)
@given(weights=superblocks())
def test_the_kernel_writes_what_the_reference_writes(name: str, weights: Floats) -> None:
    """Kernel and reference write the same bytes, and refuse the same superblock first."""
    place, fast = compiled(name, weights.view(np.uint32))
    block, slow = readable(name, weights)
    assert place // 256 == block
    if block < 0:
        assert np.array_equal(fast, slow)


@each_name
@settings(max_examples=150, deadline=None)
@given(weights=superblocks())
def test_any_weights_give_the_bytes_of_ggml(name: str, weights: Floats) -> None:
    """The kernel writes the bytes of ggml's library for every row that it doesn't refuse."""
    require("ggml")
    for row in (weights[place : place + 1] for place in range(len(weights))):
        place, out = compiled(name, row.view(np.uint32))
        if place < 0:
            assert np.array_equal(out, encoded(name, row))


@each_name
@pytest.mark.parametrize("element", ["BF16", "F16"])
def test_half_words_are_taken_as_the_numbers_they_stand_for(name: str, element: str) -> None:
    """Every finite BF16 up to a million and every finite F16 is encoded as the F32 of the same value."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    numbers = widen(bits, element)
    bits = bits[np.isfinite(numbers) & (np.abs(numbers) < 1e6)]
    bits = np.random.default_rng(5).permutation(bits)[: len(bits) // 256 * 256].reshape(-1, 256)
    ordered = np.sort(bits.reshape(-1)).reshape(-1, 256)
    for words in (bits, ordered):
        place, out = compiled(name, words, element)
        assert place == -1
        assert np.array_equal(out, compiled(name, widen(words, element).view(np.uint32))[1])


@each_name
def test_a_superblock_depends_on_no_other(name: str) -> None:
    """However many superblocks are encoded at once, each gives the same bytes."""
    weights = np.random.default_rng(6).standard_normal((9, 256)).astype(np.float32)
    _, whole = compiled(name, weights.view(np.uint32))
    for count in range(1, 10):
        some = weights[9 - count :].reshape(1, -1)
        assert np.array_equal(compiled(name, some.view(np.uint32))[1].reshape(count, -1), whole[9 - count :])


@each_name
def test_threads_encode_beside_each_other(name: str) -> None:
    """Rows that several threads encode at once get the bytes that they get alone."""
    weights = np.random.default_rng(10).standard_normal((64, 2048)).astype(np.float32)
    bits = weights.view(np.uint32)
    _, alone = compiled(name, bits)
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(lambda at: compiled(name, bits[at : at + 4])[1], range(0, 64, 4)))
    assert np.array_equal(np.concatenate(parts), alone)


@each_name
@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_with_its_place(name: str, element: str, bad: float) -> None:
    """The first NaN or infinity is named, wherever it stands, by the kernel and by the reference."""
    good = np.random.default_rng(7).standard_normal((7, 512)).astype(np.float32)
    for place in (0, 255, 256, 1023, 1024, 2700, 7 * 512 - 1):
        weights = good.copy()
        weights.reshape(-1)[place] = bad
        weights.reshape(-1)[place + 300 :: 301] = np.nan
        assert compiled(name, narrow(weights, element), element)[0] == place
        assert readable(name, weights)[0] == place // 256


@each_name
def test_weights_beyond_the_scales_are_refused(name: str) -> None:
    """A superblock whose scale is too large for F16 is refused at its largest weight, not written as infinities."""
    for size in (1e9, 1e13, 1e19, 3e38):
        weights = np.random.default_rng(8).uniform(-1, 1, (2, 256)).astype(np.float32)
        weights[1, 17] = size
        assert compiled(name, weights.view(np.uint32))[0] == 256 + 17
        assert readable(name, weights)[0] == 1


@each_name
def test_engines_see_the_weights_that_gguf_says(name: str) -> None:
    """Any bytes are decoded to the numbers that gguf's own code makes of them, to the last bit."""
    size = k_quant(name).row_sizes(256)[0]
    stored = np.random.default_rng(9).integers(0, 256, (2000, size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.dequantize(stored, gguf.GGMLQuantizationType[name])
    numbers = k_quant(name).decode((stored,), 2000, 256)
    assert np.array_equal(numbers.view(np.uint32), expected.view(np.uint32))


@each_name
def test_sizes_are_those_of_the_format(name: str) -> None:
    """Rows take the bytes that the format says."""
    assert k_quant(name).row_sizes(1024) == (4 * gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][1],)

"""Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1: the bytes of ggml, from the kernels and from the reference."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quant import ggml
from quant.awkward import ELEMENTS, KINDS, made, weights
from quant.test_encodings import room
from requirements import require
from tokenmill.quant.blocks import BlockEncoding
from tokenmill.quant.encoding import Bits
from tokenmill.quant.encodings import ENCODINGS, encoding
from tokenmill.quant.floats import narrow, widen

NAMES = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
GOLDEN = Path(__file__).parent / "golden" / "legacy.npz"


def block_encoding(name: str) -> BlockEncoding:
    kind = ENCODINGS[name]
    assert isinstance(kind, BlockEncoding)
    return kind


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=120, deadline=None)
@given(given_weights=weights())
def test_kernels_write_the_bytes_of_the_reference(name: str, given_weights: tuple[str, Bits]) -> None:
    """Kernel and reference refuse the same block, or write the same bytes."""
    element, bits = given_weights
    kind = block_encoding(name)
    fast, slow = room(kind, *bits.shape), room(kind, *bits.shape)
    place = kind.encode(bits, element, fast, None)
    block = kind.encode_slowly(bits.reshape(-1), element, slow[0])
    assert place // 32 == block
    if place < 0:
        assert fast[0].tobytes() == slow[0].tobytes()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=120, deadline=None)
@given(given_weights=weights())
def test_bytes_are_those_of_ggml(name: str, given_weights: tuple[str, Bits]) -> None:
    """Whatever can be written is written as ggml's own library writes it, from F32, F16 and BF16."""
    require("ggml")
    element, bits = given_weights
    kind = block_encoding(name)
    out = room(kind, *bits.shape)
    assume(kind.encode(bits, element, out, None) < 0)
    assert out[0].tobytes() == ggml.encoded(name, widen(bits, element)).tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_those_that_ggml_once_wrote(name: str) -> None:
    """Weights of all awkward kinds become the bytes that ggml made of them when the vectors were taken."""
    with np.load(GOLDEN) as golden:
        bits, expected = golden["weights"], golden[name]
    kind = block_encoding(name)
    out = room(kind, *bits.shape)
    assert kind.encode(bits, "F32", out, None) == -1
    assert out[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("element", ELEMENTS)
def test_a_tensor_of_many_chunks_is_that_of_gguf(name: str, element: str) -> None:
    """Ordinary weights become the bytes, and decode to the numbers, of the format's Python library."""
    bits = narrow(np.random.default_rng(7).standard_normal((96, 1024)).astype(np.float32), element)
    kind, qtype = block_encoding(name), gguf.GGMLQuantizationType[name]
    out = room(kind, *bits.shape)
    assert kind.encode(bits, element, out, None) == -1
    theirs = gguf.quants.quantize(widen(bits, element), qtype)
    assert out[0].tobytes() == theirs.tobytes()
    decoded = gguf.quants.dequantize(theirs, qtype).astype(np.float32)
    assert np.array_equal(kind.decode(out, *bits.shape), decoded)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32), kinds=st.lists(st.integers(0, len(KINDS) - 2), min_size=1, max_size=8))
def test_any_block_decodes_as_gguf_decodes_it(name: str, seed: int, kinds: list[int]) -> None:
    """Blocks of awkward weights decode to the numbers of the format's Python library."""
    bits = np.clip(made(seed, kinds, 32), -1000, 1000).view(np.uint32)[None]
    kind = block_encoding(name)
    out = room(kind, *bits.shape)
    assert kind.encode(bits, "F32", out, None) == -1
    theirs = gguf.quants.dequantize(out[0].reshape(1, -1), gguf.GGMLQuantizationType[name])
    assert np.array_equal(kind.decode(out, *bits.shape), theirs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("element", ELEMENTS)
def test_a_weight_that_is_no_number_is_found(name: str, element: str) -> None:
    """The place of the first NaN or infinity is told, also behind a chunk of the reference."""
    bits = np.tile(narrow(np.linspace(-1, 1, 64, dtype=np.float32), element), (2100, 1))
    bits[2000, 40] = narrow(np.array([np.nan], np.float32), element)[0]
    bits[2000, 41] = narrow(np.array([-np.inf], np.float32), element)[0]
    kind = block_encoding(name)
    assert kind.encode(bits, element, room(kind, *bits.shape), None) == 2000 * 64 + 40
    slow = room(kind, *bits.shape)[0]
    assert kind.encode_slowly(bits.reshape(-1), element, slow) == (2000 * 64 + 40) // 32


@pytest.mark.parametrize(("name", "most"), [("Q8_0", 8.3e6), ("Q4_0", 524e3), ("Q5_0", 1.04e6), ("Q5_1", 65e3)])
def test_a_weight_too_large_for_its_scale_is_found(name: str, most: float) -> None:
    """A scale that F16 can't hold is refused at the weight that causes it; just below it is written."""
    bits = np.zeros((1, 64), np.float32)
    kind = encoding(name)
    bits[0, 37] = -most
    assert kind.encode(bits.view(np.uint32), "F32", room(kind, 1, 64), None) == -1
    bits[0, 37] = -most * 1.01
    assert kind.encode(bits.view(np.uint32), "F32", room(kind, 1, 64), None) == 37


def test_threads_encode_side_by_side() -> None:
    """Threads that start together, before anything is compiled, write what one writes."""
    bits = narrow(np.random.default_rng(3).standard_normal((64, 256)).astype(np.float32), "BF16")
    kind = encoding("Q4_0")
    whole = room(kind, 64, 256)[0]
    assert kind.encode(bits, "BF16", (whole,), None) == -1

    def part(first: int) -> bytes:
        out = room(kind, 8, 256)
        assert kind.encode(bits[first : first + 8], "BF16", out, None) == -1
        return out[0].tobytes()

    with ThreadPoolExecutor(8) as threads:
        assert b"".join(threads.map(part, range(0, 64, 8))) == whole.tobytes()

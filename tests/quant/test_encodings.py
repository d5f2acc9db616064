"""Encodings by name, floats that stay floats, and what happens without a compiler or a cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quant.awkward import ELEMENTS
from tokenmill.errors import UsageError
from tokenmill.quant.encoding import Encoding
from tokenmill.quant.encodings import ENCODINGS, encoding, scaled
from tokenmill.quant.floats import FloatEncoding, narrow, widen

TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def room(kind: Encoding, rows: int, columns: int) -> tuple[NDArray[np.uint8], ...]:
    return tuple(np.full(rows * size, 0xAA, np.uint8) for size in kind.row_sizes(columns))


def test_names_are_found_in_any_case() -> None:
    """A name finds its encoding in upper and lower case."""
    assert encoding("q4_0") is encoding("Q4_0") is ENCODINGS["Q4_0"]
    assert all(encoding(name).name == name for name in ENCODINGS)


@pytest.mark.parametrize(("name", "near"), [("q4_00", "Q4_0"), ("W4A8", "W4A16"), ("zz", "BF16")])
def test_an_unknown_name_is_refused_with_what_is_near(name: str, near: str) -> None:
    """An unknown encoding is refused; the message names those it may have been."""
    with pytest.raises(UsageError, match=near) as refused:
        encoding(name)
    assert repr(name) in str(refused.value)


@pytest.mark.parametrize("name", ["INT2", "q2_k"])
def test_two_bits_are_refused_with_the_reason(name: str) -> None:
    """Two bits are refused by name, with the reason and what to use instead."""
    with pytest.raises(UsageError, match=r"calibrat.*Q4_0"):
        encoding(name)


def test_scales_of_the_least_error_are_offered_where_the_format_allows() -> None:
    """`mse` finds its variant for group integers, and is refused by name elsewhere."""
    assert scaled("w4a16", "absmax") == "W4A16"
    assert scaled("w4a16", "mse") == "W4A16-MSE"
    with pytest.raises(UsageError, match=r"Q8_0 .*W4A16"):
        scaled("Q8_0", "mse")
    with pytest.raises(UsageError, match="absmax or mse"):
        scaled("W4A16", "best")


@settings(max_examples=60, deadline=None)
@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=64), source=st.sampled_from(ELEMENTS))
def test_floats_are_rounded_as_torch_rounds(bits: list[int], source: str) -> None:
    """A float becomes the float of another type that torch makes of it; one that would be infinite is refused."""
    words = np.array(bits, np.uint32).astype(np.uint32 if source == "F32" else np.uint16)
    for target in ELEMENTS:
        kind = FloatEncoding(target)
        theirs = (
            torch.from_numpy(words.view(np.int32 if source == "F32" else np.int16))
            .view(TORCH[source])
            .to(TORCH[target])
        )
        out = room(kind, 1, len(words))
        place = kind.encode(words[None], source, out, None)
        infinite = torch.nonzero(~torch.isfinite(theirs.float())).flatten().tolist()
        assert place == (infinite[0] if infinite else -1)
        slow = room(kind, 1, len(words))
        assert kind.encode_slowly(words[None], source, slow[0]) == place
        if place < 0:
            assert slow[0].tobytes() == out[0].tobytes() == theirs.view(torch.uint8).numpy().tobytes()
            assert np.array_equal(kind.decode(out, 1, len(words))[0], theirs.float().numpy())


def test_a_null_encoding_fills_the_same_room() -> None:
    """The null encoding writes exactly as many bytes as the one it stands for, also more than it reads."""
    source = np.arange(256, dtype=np.uint16).reshape(2, 128)
    for name in ("Q4_0", "W4A16", "F32"):
        null = encoding(f"null:{name}")
        assert null.row_sizes(128) == encoding(name).row_sizes(128)
        out = room(null, 2, 128)
        assert null.encode(source, "BF16", out, None) == -1
        assert out[0][:8].tobytes() == source.tobytes()[:8]
        assert out[0][-1:].tobytes() != b"\xaa"


BLOCKED = """
import sys
import numpy as np
if sys.argv[1] == "without":
    sys.modules["numba"] = None
from tokenmill.quant.encodings import encoding
assert "numba" not in sys.modules or sys.modules["numba"] is None
weights = np.random.default_rng(5).standard_normal((2, 128)).astype(np.float32)
for name in sys.argv[2:]:
    kind = encoding(name)
    out = tuple(np.zeros(2 * size, np.uint8) for size in kind.row_sizes(128))
    assert kind.encode(weights.view(np.uint32), "F32", out, kind.scratch(128)) == -1
    print(b"".join(part.tobytes() for part in out).hex())
assert (sys.modules.get("numba") is None) == (sys.argv[1] == "without")
"""


def _lines(cache: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *arguments],
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_without_numba_the_reference_writes_the_same(tmp_path: Path) -> None:
    """Where numba is missing, the bytes are the same; names alone never import it."""
    names = ("Q8_0", "W4A16")
    assert _lines(str(tmp_path), "without", *names) == _lines(str(tmp_path), "with", *names)
    assert list(tmp_path.rglob("*.nbi"))


def test_a_cache_that_cannot_be_written_does_no_harm() -> None:
    """Kernels run where machine code can't be kept."""
    assert _lines("/proc/no/such", "with", "Q8_0") == _lines("/proc/no/such", "without", "Q8_0")


def test_halves_are_rounded_the_same_without_the_instruction() -> None:
    """The integer way to F16 gives what the processor gives, for every F16, every tie and their neighbours."""
    numba = pytest.importorskip("numba")
    from tokenmill.quant.kernels.lanes import _round_to_half, _truncate_to_half

    exact = widen(np.arange(0x7C00, dtype=np.uint16), "F16").view(np.uint32)
    near = np.concatenate(
        [exact, exact[:-1] // 2 + exact[1:] // 2, exact + 1, exact[1:] - 1, np.array([0x477FEFFF], np.uint32)]
    )
    both = np.concatenate([near, near | np.uint32(1 << 31)]).view(np.float32)

    @numba.njit
    def run(numbers, out):  # type: ignore[no-untyped-def]
        for each in range(len(numbers)):
            out[0, each] = _round_to_half(numbers[each])
            out[1, each] = _truncate_to_half(numbers[each])

    out = np.zeros((2, both.size), np.uint32)
    run(both, out)
    assert np.array_equal(out[0], narrow(both, "F16"))
    assert np.array_equal(out[1], narrow(both, "F16"))

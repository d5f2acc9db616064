"""W4A16 and W8A16: the words and scales of compressed-tensors, from the kernels and from the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.awkward import ELEMENTS, weights
from quant.test_encodings import room
from tokenmill.quant.encoding import Bits
from tokenmill.quant.encodings import ENCODINGS
from tokenmill.quant.floats import narrow, widen
from tokenmill.quant.groups import GroupEncoding

NAMES = ("W4A16", "W4A16-G32", "W8A16")
WIDTHS = (1, 3, 31, 32, 33, 95, 130)


def group_encoding(name: str) -> GroupEncoding:
    kind = ENCODINGS[name]
    assert isinstance(kind, GroupEncoding)
    return kind


def theirs(bits: Bits, element: str, kind: GroupEncoding) -> tuple[dict[str, Any], Any]:
    """What compressed-tensors stores, and the weights it makes of that; it computes in the type of BF16 weights."""
    arguments = QuantizationArgs(
        num_bits=kind.bits,
        type="int",
        strategy="group" if kind.span else "channel",
        group_size=kind.span,
        symmetric=True,
        scale_dtype=torch.bfloat16,
    )
    weight = torch.from_numpy(widen(bits, element).copy())
    weight = weight.bfloat16() if element == "BF16" else weight
    groups = weight.reshape(len(weight), -1, kind.span or weight.shape[1])
    scale, _ = calculate_qparams(groups.amin(2), groups.amax(2), arguments)
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments)
    stored = PackedQuantizationCompressor.compress({"weight": weight, "weight_scale": scale.bfloat16()}, scheme)
    return stored, PackedQuantizationCompressor.decompress(dict(stored), scheme)["weight"]


def check_against_theirs(kind: GroupEncoding, element: str, bits: Bits) -> None:
    """Checks rows that can be written."""
    out = room(kind, *bits.shape)
    if kind.encode(bits, element, out, None) >= 0:
        return
    stored, decoded = theirs(bits, element, kind)
    assert out[0].tobytes() == stored["weight_packed"].numpy().tobytes()
    assert out[1].tobytes() == stored["weight_scale"].view(torch.int16).numpy().tobytes()
    assert np.array_equal(kind.decode(out, *bits.shape), decoded.float().numpy())


@pytest.mark.parametrize("name", ["W4A16", "W4A16-G32"])
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_groups_are_those_of_compressed_tensors(name: str, data: st.DataObject) -> None:
    """Words, scales and decoded weights are those of compressed-tensors, from F32, F16 and BF16."""
    kind = group_encoding(name)
    check_against_theirs(kind, *data.draw(weights(kind.group)))


@settings(max_examples=120, deadline=None)
@given(given_weights=st.sampled_from(WIDTHS).flatmap(lambda columns: weights(columns=columns)))
def test_channels_are_those_of_compressed_tensors(given_weights: tuple[str, Bits]) -> None:
    """Rows of any width get one scale and are filled up to whole words, as compressed-tensors does."""
    check_against_theirs(group_encoding("W8A16"), *given_weights)


@pytest.mark.parametrize("name", [*NAMES, "W4A16-MSE", "W4A16-G32-MSE"])
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_kernels_write_the_bytes_of_the_reference(name: str, data: st.DataObject) -> None:
    """Kernel and reference refuse the same group, or write the same bytes."""
    kind = group_encoding(name)
    columns = kind.span or data.draw(st.sampled_from(WIDTHS))
    element, bits = data.draw(weights(columns=columns))
    span = kind.span or bits.shape[1]
    fast, slow = room(kind, *bits.shape), room(kind, *bits.shape)
    place = kind.encode(bits, element, fast, None)
    group = kind.encode_slowly(bits.reshape(-1, span), element, *slow)
    assert place // span == group
    if place < 0:
        assert [part.tobytes() for part in fast] == [part.tobytes() for part in slow]


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("name", ["W4A16", "W4A16-G32"])
def test_mse_scales_err_less(name: str, element: str) -> None:
    """Scales chosen for the least square error have a smaller one, in files of the same size."""
    bits = narrow(np.random.default_rng(11).standard_normal((64, 512)).astype(np.float32), element)
    errors = []
    for kind in (group_encoding(name), group_encoding(f"{name}-MSE")):
        out = room(kind, *bits.shape)
        assert kind.encode(bits, element, out, None) == -1
        errors.append(float(((kind.decode(out, *bits.shape) - widen(bits, element)) ** 2).sum()))
    assert errors[1] < 0.95 * errors[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("element", ELEMENTS)
def test_a_weight_that_is_no_number_is_found(name: str, element: str) -> None:
    """The place of the first NaN or infinity is told."""
    kind = group_encoding(name)
    bits = np.tile(narrow(np.linspace(-1, 1, 256, dtype=np.float32), element), (3, 1))
    bits[1, 200] = narrow(np.array([np.inf], np.float32), element)[0]
    bits[2, 0] = narrow(np.array([np.nan], np.float32), element)[0]
    assert kind.encode(bits, element, room(kind, *bits.shape), None) == 256 + 200


def test_every_quotient_of_bf16_is_rounded_as_by_division() -> None:
    """Multiplying by the inverse of a scale gives the integers of a division, for every pair of significands."""
    kind = group_encoding("W4A16-G32")
    peaks = np.arange(128, 256, dtype=np.float32)
    for peak in peaks:
        inside = np.concatenate([np.arange(0, peak + 1), np.arange(128, 256) / 2, np.arange(128, 256) / 4])
        inside = inside[inside <= peak]
        padded = np.zeros(-(-inside.size // 31) * 31, np.float32)
        padded[: inside.size] = inside
        groups = np.hstack([np.full((padded.size // 31, 1), peak, np.float32), padded.reshape(-1, 31)])
        for sign in (1, -1):
            check_against_theirs(kind, "BF16", narrow(groups * np.float32(sign), "BF16"))


@pytest.mark.parametrize("name", ["W4A16", "W4A16-G32", "W8A16", "W4A16-MSE", "W4A16-G32-MSE"])
def test_weights_near_the_end_of_bf16(name: str) -> None:
    """The lowest code may stand for minus infinity, here as in compressed-tensors, and nothing warns of it."""
    kind = group_encoding(name)
    bits = np.full((1, 128), 0xFF7F, np.uint16)  # the most negative number there is
    bits[0, ::2] = 0x7F7F
    fast, slow = room(kind, *bits.shape), room(kind, *bits.shape)

    assert kind.encode(bits, "BF16", fast, None) == -1
    kind.encode_slowly(bits.reshape(-1, kind.span or 128), "BF16", *slow)
    assert [out.tobytes() for out in fast] == [out.tobytes() for out in slow]
    kind.decode(fast, *bits.shape)
    if not name.endswith("MSE"):
        check_against_theirs(kind, "BF16", bits)

"""Fast paths of the layers against their plain twins."""

from __future__ import annotations

import pytest
import torch

from tokenmill.engine.local import linear
from tokenmill.engine.local.attention import decode_by_matmul, decode_by_sdpa
from tokenmill.engine.local.linear import ACTIVATIONS, make_linear, packing_works, plain_linear

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10, torch.bfloat16: 4e-2}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("biased", [True, False])
def test_a_linear_is_what_it_says(dtype: torch.dtype, activation: str, biased: bool) -> None:
    """Packed or not, a layer gives what the plain one gives, for one row and many."""
    torch.manual_seed(2)
    weight = torch.randn(70, 33).to(dtype).T.contiguous().T
    bias = torch.randn(70).to(dtype) if biased else None
    layer = make_linear(weight, bias, activation)

    for rows in (1, 5, 64):
        x = torch.randn(rows, 33).to(dtype)
        difference = layer(x) - plain_linear(weight, bias, activation)(x)
        assert difference.abs().max() <= TOLERANCE[dtype] * 33


def test_double_precision_is_never_packed() -> None:
    """The packed operators know no fp64; such a model is computed by plain layers."""
    assert not packing_works(torch.float64, "none")


@pytest.mark.parametrize(
    "broken",
    [
        lambda weight, bias, activation: lambda x: plain_linear(weight, bias, activation)(x) + 1,
        lambda weight, bias, activation: torch.ops.mkldnn.an_operator_that_is_gone(weight),
    ],
)
def test_a_packing_that_fails_or_differs_is_not_used(broken: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Private operators that are gone, or give other results, are found out by the probe."""
    monkeypatch.setattr(linear, "_pack", broken)

    assert not packing_works.__wrapped__(torch.float32, "none")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("heads", "group"), [(4, 1), (2, 3), (1, 8)])
def test_both_ways_of_decoding_attend_alike(dtype: torch.dtype, heads: int, group: int) -> None:
    """Two products and the library's attention agree with attention written out, over slices of longer rows."""
    torch.manual_seed(4)
    queries = torch.randn(5, heads, group, 16).to(dtype)
    keys, values = (torch.randn(7, heads, 50, 16).to(dtype)[:5, :, :40] for _ in range(2))
    lengths = torch.tensor([1, 40, 17, 39, 5])
    hidden = torch.arange(40) >= lengths[:, None]
    mask = torch.zeros(5, 40, dtype=dtype).masked_fill(hidden, -torch.inf)[:, None, None]

    by_hand = torch.stack(
        [
            torch.softmax(queries[row].double() @ keys[row, :, :seen].double().mT / 4, -1)
            @ values[row, :, :seen].double()
            for row, seen in enumerate(lengths.tolist())
        ]
    )

    for decode in (decode_by_matmul, decode_by_sdpa):
        assert (decode(queries, keys, values, mask) - by_hand).abs().max() < TOLERANCE[dtype]

"""Fast paths of linears and attention against their plain twins."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tokenmill.engine.local import linear
from tokenmill.engine.local.attention import decode_by_matmul, decode_by_sdpa
from tokenmill.engine.local.batcher import BUCKET
from tokenmill.engine.local.linear import ACTIVATIONS, make_linear, packing_works, plain_linear
from tokenmill.engine.local.runner import CALL_COST, split_rows

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


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=40))
@example([200, 10, 130, 200])
def test_bands_hold_every_row_and_never_cost_more_than_one_call(positions: list[int]) -> None:
    """Bands follow each other without gap, reach their rows, and read no more than a single call would."""
    stride = 2001

    bands = split_rows(positions, stride)

    rows = [row for first, last, _ in bands for row in range(first, last)]
    assert rows == list(range(len(positions)))
    for first, last, reach in bands:
        assert max(positions[first:last]) < reach <= stride
    cost = sum((last - first) * reach + CALL_COST for first, last, reach in bands)
    assert cost <= len(positions) * max(reach for _, _, reach in bands) + CALL_COST


def test_one_long_row_does_not_lengthen_the_others() -> None:
    """A long sequence among short ones is read alone; short ones of like lengths are read together."""
    bands = split_rows([70, 100, 90, 3000, 80, 127, 64], 4096)

    assert bands == [(0, 3, 2 * BUCKET), (3, 4, 47 * BUCKET), (4, 7, 2 * BUCKET)]

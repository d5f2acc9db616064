"""The cache: rows keep their content through moves and new layouts, in exactly the planned memory."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.local.reference_models import describe, make_core, make_reference
from tokenmill.engine.local.batcher import Move
from tokenmill.engine.local.cache import Cache
from tokenmill.engine.local.memory import plan_memory

CONFIG = describe(make_reference("llama", "fp32"))
CPU = torch.device("cpu")


def fill(cache: Cache, slot: int, start: int, end: int) -> None:
    """Writes places `start` to `end` of a row; each number tells its layer, kind, row, head and place apart."""
    places = torch.arange(start, end)
    addresses = cache.addresses(torch.full_like(places, slot), places)
    for layer in range(CONFIG.layers):
        keys = content(cache, slot, layer)[start:end]
        cache.write(layer, addresses, keys, -keys)


def content(cache: Cache, row: int, layer: int) -> torch.Tensor:
    """What `fill` writes, `[64, heads, head_dim]`."""
    shape = (64, cache.heads, cache.head_dim)
    return torch.arange(64 * cache.heads * cache.head_dim).view(shape).float() + 1e5 * row + 1e6 * layer


def holds(cache: Cache, slot: int, row: int, length: int) -> bool:
    """Whether `slot` has the first `length` places that were written as `row`."""
    return all(
        torch.equal(kept[layer][slot, :, :length].transpose(0, 1), sign * content(cache, row, layer)[:length])
        for layer in range(CONFIG.layers)
        for kept, sign in ((cache.keys, 1), (cache.values, -1))
    )


def test_a_row_keeps_what_was_written_through_moves() -> None:
    """A moved row has the same keys and values, of all layers, at its new place."""
    cache = Cache(CONFIG, 64, 16, torch.float32, CPU)
    fill(cache, 3, 0, 10)
    fill(cache, 3, 10, 13)

    cache.move([Move(3, 1, 13), Move(1, 0, 12)])

    assert holds(cache, 1, 3, 13)
    assert holds(cache, 0, 3, 12)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_new_layout_keeps_every_row(data: st.DataObject) -> None:
    """Rows of any lengths survive any change of the stride, both ways."""
    places = data.draw(st.integers(20, 150))
    rows = data.draw(st.integers(1, 6))
    strides = data.draw(st.lists(st.integers(1, places // rows), min_size=2, max_size=4))
    kept = data.draw(st.lists(st.integers(0, min(*strides, 64)), min_size=rows, max_size=rows))
    cache = Cache(CONFIG, places, strides[0], torch.float32, CPU)
    for row, length in enumerate(kept):
        fill(cache, row, 0, length)

    for stride in strides[1:]:
        cache.restride(stride, kept)

    assert all(holds(cache, row, row, length) for row, length in enumerate(kept))


def test_nothing_is_ever_read_that_is_not_a_number() -> None:
    """A fresh cache is zeros: attention reads places nobody wrote, and a NaN there would pass through its mask."""
    cache = Cache(CONFIG, 500, 64, torch.bfloat16, CPU)

    assert cache.arena.count_nonzero() == 0


def test_the_cache_is_as_large_as_planned() -> None:
    """Allocated bytes equal the plan and stay within the KV memory given, at every precision."""
    model = make_reference("llama", "fp32")
    for dtype in ("bf16", "fp32", "fp64"):
        for tokens in (40, 333, 1000):
            core = make_core(model, dtype, slots=4, kv_tokens=tokens)
            plan = plan_memory(describe(model), dtype, 4, None, tokens * core.plan.kv_token_bytes)

            assert core.plan == plan
            assert core.kv_bytes == plan.kv_bytes == min(tokens, 4 * 192) * plan.kv_token_bytes

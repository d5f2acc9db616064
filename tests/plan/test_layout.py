"""Layouts of a model over devices: what each device holds, and how long a step takes."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tokenmill.engine.local.sharding import share_tensors
from tokenmill.model.config import make_config
from tokenmill.plan.gpus import Gpus, count_of, parse_gpus
from tokenmill.plan.layout import MOST_SEQUENCES, Copy, layouts, make_layout, why_not, widths
from tokenmill.plan.shape import FORMATS, find_shape, make_shape
from tokenmill.plan.step import Link, read_once, reading_rate, step

GPT2, MIXTRAL, LLAMA = find_shape("gpt2"), find_shape("mixtral-8x7b"), find_shape("llama-3-8b")
TEN = parse_gpus("10x11GB")
FAST = (Gpus(count=8, memory=80_000_000_000, bandwidth=2e12),)
FREE = Link(rate=1e30, latency=0.0)


def only(layout_tp: int, stages: int, groups: tuple[Gpus, ...] = FAST, dtype: str = "bf16") -> Copy:
    return make_layout(LLAMA, dtype, groups, layout_tp, stages).copies[0]


def test_gpt2_is_halved_as_measured() -> None:
    """Two ranks of GPT-2 hold 81.9 million parameters each, as our own tensor parallel engine shows."""
    layout = make_layout(GPT2, "fp32", parse_gpus("2x11GB"), 2, 1)

    assert layout.copies[0].stages[0].weights / 4 == pytest.approx(81.9e6, rel=0.001)


@pytest.mark.parametrize("tied", [True, False])
def test_ranks_hold_what_our_own_engine_gives_them(tied: bool) -> None:
    """A head of its own is cut by words, one that is the embedding stays whole with it."""
    values: dict[str, object] = {
        **{"model_type": "llama", "hidden_size": 384, "num_hidden_layers": 4, "intermediate_size": 1024},
        **{
            "num_attention_heads": 12,
            "num_key_value_heads": 4,
            "vocab_size": 100_000,
            "max_position_embeddings": 512,
            "tie_word_embeddings": tied,
        },
    }
    shape = make_shape(values, {}, "llama", "here")
    config = make_config(values, {}, Path("here"))

    for tp in (1, 2, 4):
        (stage,) = make_layout(shape, "fp32", FAST, tp, 1).copies[0].stages
        held = sum(prod(each) for each in share_tensors(config, tp).values())
        assert stage.weights / 4 == held


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ("4x200MB", "4 copies of 500 MB are 2.0 GB of 800 MB, and a device has 200 MB"),
        ("4x400MB", "4 copies of 500 MB are 2.0 of 1.6 GB, and a device has 400 MB"),
    ],
)
def test_the_arithmetic_of_a_refusal_has_its_units(devices: str, said: str) -> None:
    """The unit is left out only where it is that of the total."""
    _, refused = layouts(GPT2, "fp32", parse_gpus(devices), 8, 1)

    assert any(said in line for line in refused)


def test_heads_must_divide() -> None:
    """GPT-2 has 12 heads, Mixtral 32 and 8 of keys and values."""
    assert widths(GPT2, 12) == [1, 2, 3, 4, 6, 12]
    assert widths(MIXTRAL, 16) == [1, 2, 4, 8]
    assert why_not(GPT2, 8) == "gpt2 has 12 heads, which 8 doesn't divide"


def test_a_copy_a_device_is_impossible_by_arithmetic() -> None:
    """Mixtral as int8 on ten devices of 11 GB: 470 of 110 GB; tensor parallel goes 8 wide, the layers over all ten."""
    found, refused = layouts(MIXTRAL, "int8", TEN, 1024, None)

    names = [layout.name for layout in found]
    assert "tp 8" in names
    assert "layers over 10" in names
    assert any("10 copies of 47 GB are 470 of 110 GB" in line for line in refused)
    assert any(line.startswith("tp 10: no: mixtral-8x7b has 32 heads") for line in refused)
    assert next(layout.idle for layout in found if layout.name == "tp 8") == 2


def test_unequal_devices_get_layers_by_their_memory() -> None:
    """A copy over a large and a small device deals the layers in proportion."""
    layout = make_layout(LLAMA, "bf16", parse_gpus("1x30GB,1x10GB"), 1, 2)

    assert [stage.layers for stage in layout.copies[0].stages] == [24, 8]


def test_copies_stand_on_equal_devices() -> None:
    """A copy of two devices takes both from one kind; what is left over stays idle."""
    layout = make_layout(LLAMA, "bf16", parse_gpus("5x80GB,3x40GB"), 2, 1)

    assert [copy.times for copy in layout.copies] == [2, 1]
    assert (layout.replicas, layout.idle) == (3, 2)


@given(st.sampled_from(sorted(FORMATS)), st.integers(1, 8), st.integers(8, 90), st.integers(16, 8192))
def test_what_fits_really_fits(dtype: str, count: int, size: int, tokens: int) -> None:
    """With a full batch every device holds what it must, and with one sequence more the tightest doesn't."""
    groups = (Gpus(count=count, memory=size * 10**9),)
    found, refused = layouts(LLAMA, dtype, groups, tokens, None)

    assert found or refused
    for layout in found:
        assert layout.idle + sum(copy.devices * copy.times for copy in layout.copies) == count_of(groups)
        for copy in layout.copies:
            batch = copy.batch(tokens)
            assert all(stage.needs(batch, tokens) <= stage.device.memory for stage in copy.stages)
            full = any(stage.needs(batch + 1, tokens) > stage.device.memory for stage in copy.stages)
            assert full or batch == MOST_SEQUENCES


@given(st.integers(1, 32))
def test_stages_hold_the_model_once(stages: int) -> None:
    """However many devices the layers go over, together they hold every weight once."""
    copy = make_layout(LLAMA, "int8", (Gpus(count=stages, memory=80 * 10**9),), 1, stages).copies[0]

    assert sum(stage.layers for stage in copy.stages) == LLAMA.layers
    assert sum(stage.weights for stage in copy.stages) == LLAMA.parameters


def test_one_request_reads_the_weights_once() -> None:
    """Alone and with nothing written yet, a token takes the weights it passes over the bandwidth."""
    assert step(LLAMA, "bf16", only(1, 1), 1, 0, None).total == pytest.approx(read_once(LLAMA, "bf16") / 2e12)


def test_a_ring_sends_less_than_twice_the_bytes() -> None:
    """Two sums a layer, each over a ring: 2 (p - 1) / p of the values, and 2 (p - 1) messages."""
    link = Link(rate=1e9, latency=1e-5)
    between = step(LLAMA, "bf16", only(4, 1), 16, 0, link).between

    assert between == pytest.approx(2 * 32 * (2 * 3 / 4 * 16 * 4096 * 2 / 1e9 + 6 * 1e-5))


def test_layers_over_devices_are_no_faster() -> None:
    """One of the stages is busy at a time, so a step takes as long as on one device, and the hops on top."""
    alone, spread = step(LLAMA, "bf16", only(1, 1), 8, 500, None), step(LLAMA, "bf16", only(1, 4), 8, 500, FREE)
    linked = step(LLAMA, "bf16", only(1, 4), 8, 500, Link(rate=1e9, latency=1e-5))

    assert spread.total == pytest.approx(alone.total)
    assert linked.between == pytest.approx(3 * (8 * 4096 * 2 / 1e9 + 1e-5))


def test_a_free_link_makes_tensor_parallel_as_quick_as_its_parts() -> None:
    """With a link that costs nothing, 8 devices take little more than an eighth: only the head is read whole."""
    alone, shared = step(LLAMA, "bf16", only(1, 1), 1, 0, None), step(LLAMA, "bf16", only(8, 1), 1, 0, FREE)

    assert alone.total / 8 < shared.total < alone.total / 5


def test_operations_bound_large_batches() -> None:
    """Where operations per second are stated, a large batch takes as long as they do, and prompts have a rate."""
    slow = tuple(replace(group, compute=1e13) for group in FAST)
    copy = only(1, 1, slow)

    assert step(LLAMA, "bf16", copy, 256, 0, None).total == pytest.approx(2 * 256 * LLAMA.passed / 1e13, rel=1e-3)
    assert reading_rate(LLAMA, copy) == pytest.approx(1e13 / 2 / LLAMA.passed, rel=0.1)
    assert reading_rate(LLAMA, only(1, 1)) is None

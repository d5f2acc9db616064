"""What an engine chooses where the user left it open."""

from __future__ import annotations

import msgspec
import pytest

from tokenmill.cluster import EngineOptions
from tokenmill.engine.local.settings import SLOT_TOKENS, SLOTS, choose_dtype, choose_threads, plan_slots, spare_memory
from tokenmill.errors import UsageError
from tokenmill.model.config import ModelConfig

SMALL = ModelConfig(
    family="llama",
    layers=4,
    hidden=192,
    heads=6,
    kv_heads=6,
    head_dim=32,
    intermediate=512,
    vocab=600,
    context=512,
    norm_eps=1e-5,
    rope_theta=1e4,
    rope_scaling=None,
    tied=True,
    attention_bias=False,
    output_bias=False,
    mlp_bias=False,
    qk_norm=False,
    sliding_window=None,
    activation="silu",
    eos_ids=(0,),
    bos_id=None,
    stored_dtype="F32",
)
LARGE = msgspec.structs.replace(SMALL, layers=16, hidden=2048, heads=32, kv_heads=8, head_dim=64, vocab=128_256,
                                intermediate=8192, context=131_072)  # fmt: skip
TOKEN = 2 * 4 * 6 * 32 * 4  # bytes of KV memory for each token of SMALL in fp32


@pytest.mark.parametrize(
    ("config", "fast", "dtype"), [(SMALL, True, "fp32"), (LARGE, True, "bf16"), (LARGE, False, "fp32")]
)
def test_bf16_is_for_large_models_on_cpus_that_have_it(config: ModelConfig, fast: bool, dtype: str) -> None:
    """A small model keeps the precision in which its answers don't depend on the batch."""
    assert choose_dtype(config, fast_bf16=fast) == dtype


def test_a_tiny_model_gets_one_thread() -> None:
    """Threads that would only wait for each other aren't started."""
    assert choose_threads(SMALL, cores=8) == 1
    assert choose_threads(LARGE, cores=8) == 8


def test_the_default_slots_are_what_pays() -> None:
    """With plenty of memory the number of slots is that of the design, not of the memory."""
    assert plan_slots(SMALL, "fp32", EngineOptions(), 10**12).slots == SLOTS


def test_little_memory_means_fewer_default_slots() -> None:
    """Each of the slots finds room for a fair answer."""
    plan = plan_slots(SMALL, "fp32", EngineOptions(), 5 * SLOT_TOKENS * TOKEN)

    assert (plan.slots, plan.kv_tokens) == (5, 5 * SLOT_TOKENS)


def test_slots_asked_for_are_kept() -> None:
    """The user may want many short answers."""
    assert plan_slots(SMALL, "fp32", EngineOptions(slots=64), 5 * SLOT_TOKENS * TOKEN).slots == 64


def test_the_least_memory_still_gives_one_slot() -> None:
    """A single slot is slow, but it answers."""
    assert plan_slots(SMALL, "fp32", EngineOptions(), 4 * TOKEN).slots == 1


def test_weights_that_dont_fit_are_refused_with_both_sizes() -> None:
    """Loading would only wake the system's killer."""
    with pytest.raises(UsageError, match=r"node 'a': the weights need [\d,]+ bytes as fp32 and 1,000 are free"):
        spare_memory("node 'a'", SMALL, "fp32", 1000)


def test_what_the_weights_leave_is_spare() -> None:
    """Weights and spare memory add up to what is usable."""
    half, full = (spare_memory("node 'a'", SMALL, dtype, 10**9) for dtype in ("bf16", "fp32"))

    assert 10**9 - full == 2 * (10**9 - half)

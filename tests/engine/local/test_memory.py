"""The memory plan: arithmetic before anything is loaded."""

from __future__ import annotations

import msgspec
import pytest

from engine.local.reference_models import MODELS, describe, make_core, make_reference, named_weights
from tokenmill.engine.local.memory import MemoryTooSmall, count_weights, plan_memory
from tokenmill.errors import UsageError

CONFIG = msgspec.structs.replace(
    describe(make_reference("llama", "fp32")), layers=10, kv_heads=4, head_dim=32, context=1000
)
TOKEN = 2 * 10 * 4 * 32 * 2


def test_memory_is_shared_out_in_whole_tokens() -> None:
    """A token costs keys and values of every layer; as many as fit are planned, no more than slots can use."""
    scarce = plan_memory(CONFIG, "bf16", 4, None, 1500 * TOKEN + TOKEN - 1)
    plenty = plan_memory(CONFIG, "bf16", 4, None, 1 << 40)

    assert (scarce.kv_token_bytes, scarce.kv_tokens, scarce.kv_bytes) == (TOKEN, 1500, 1500 * TOKEN)
    assert (plenty.kv_tokens, plenty.slots, plenty.context) == (4000, 4, 1000)
    assert plan_memory(CONFIG, "fp64", 4, None, 1500 * TOKEN).kv_tokens == 375


def test_the_context_is_what_memory_holds() -> None:
    """With memory for fewer tokens than the model's context, prompt and answer must fit the memory."""
    assert plan_memory(CONFIG, "bf16", 4, None, 700 * TOKEN).context == 700
    assert plan_memory(CONFIG, "bf16", 4, 128, 1 << 40).context == 128


def test_too_little_memory_is_refused_with_its_arithmetic() -> None:
    """The message says what one token costs and how much is needed."""
    with pytest.raises(MemoryTooSmall) as caught:
        plan_memory(CONFIG, "bf16", 4, None, TOKEN)

    assert "5,120 bytes" in str(caught.value)
    assert "2 x 10 layers x 4 heads x 32 x 2 bytes" in str(caught.value)
    assert "at least 10,240 bytes" in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "slots", "context", "named"),
    [("fp8", 1, None, "'fp8'"), ("bf16", 0, None, "slots 0"), ("bf16", 1, 1001, "context 1001")],
)
def test_what_cannot_be_is_refused(dtype: str, slots: int, context: int | None, named: str) -> None:
    """An unknown precision, no slots and a context beyond the model's are errors that name the value."""
    with pytest.raises(UsageError, match=named):
        plan_memory(CONFIG, dtype, slots, context, 1 << 30)


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_counted_as_they_will_be_held(name: str) -> None:
    """The count equals the tensors of the model, and a tied head once more."""
    model = make_reference(name, "fp32")
    config = describe(model)
    stored = {tensor_name: tensor.numel() for tensor_name, tensor in named_weights(model)}
    again = stored.pop("lm_head.weight")

    assert count_weights(config) == sum(stored.values()) + again
    assert make_core(model, "fp32", 1).plan.weight_bytes == 4 * count_weights(config)

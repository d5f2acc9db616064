"""What a model will hold in memory, worked out before anything is loaded.

Three parts: the weights, the keys and values (KV) of the sequences in flight, and on the CPU a second copy of a tied
output head, because a linear packed for speed can't be read as an embedding table. KV memory is the only part the
user chooses; it is allocated once, at exactly the planned size, and the batcher never asks for more.
"""

from __future__ import annotations

import math

from msgspec import Struct

from tokenmill.engine.local.sharding import HEAD, check_size, share_config, share_shape, share_tensors
from tokenmill.errors import UsageError
from tokenmill.model.config import ModelConfig

ELEMENT_BYTES = {"bf16": 2, "fp32": 4, "fp64": 8}


class MemoryPlan(Struct, frozen=True, kw_only=True):
    """Sizes in bytes, lengths in tokens; of `ranks` that share the model, each holds what is stated, all alike.

    `context` is the longest prompt and answer together: the model's, or what the KV memory holds if that is less.
    `slots` is how many sequences can run at the same time; `kv_tokens` is shared by all of them.
    """

    weight_bytes: int
    kv_token_bytes: int
    kv_tokens: int
    slots: int
    context: int
    ranks: int = 1

    @property
    def kv_bytes(self) -> int:
        return self.kv_tokens * self.kv_token_bytes

    @property
    def rank_bytes(self) -> int:
        return self.weight_bytes + self.kv_bytes

    @property
    def total_bytes(self) -> int:
        """What all ranks hold together."""
        return self.ranks * self.rank_bytes


class MemoryTooSmall(UsageError):
    """The KV memory can't hold even one short sequence a slot."""


def plan_memory(
    config: ModelConfig, dtype: str, slots: int, context: int | None, kv_memory: int, ranks: int = 1
) -> MemoryPlan:
    """The plan for at most `slots` sequences of at most `context` tokens in `kv_memory` bytes of keys and values.

    `kv_memory` is what each of the ranks has for its own share of the heads.
    """
    check_size(config, ranks)
    if dtype not in ELEMENT_BYTES:
        raise UsageError(f"dtype {dtype!r} isn't supported by the local engine; known: {', '.join(ELEMENT_BYTES)}")
    if slots < 1:
        raise UsageError(f"slots {slots}: at least 1 is needed")
    if context is not None and not 2 <= context <= config.context:
        raise UsageError(f"context {context} is outside 2 to {config.context}, what this model was made for")
    longest = config.context if context is None else context
    heads = share_config(config, ranks).kv_heads
    token_bytes = 2 * config.layers * heads * config.head_dim * ELEMENT_BYTES[dtype]
    tokens = min(kv_memory // token_bytes, slots * longest)
    if tokens < 2:
        raise MemoryTooSmall(
            f"KV memory of {kv_memory:,} bytes holds {tokens} tokens of {token_bytes:,} bytes (2 x {config.layers} "
            f"layers x {heads} heads x {config.head_dim} x {ELEMENT_BYTES[dtype]} bytes); "
            f"one sequence needs 2 or more, so give at least {2 * token_bytes:,} bytes"
        )
    return MemoryPlan(
        weight_bytes=count_weights(config, ranks) * ELEMENT_BYTES[dtype],
        kv_token_bytes=token_bytes,
        kv_tokens=tokens,
        slots=min(slots, tokens // 2),
        context=min(longest, tokens),
        ranks=ranks,
    )


def count_weights(config: ModelConfig, ranks: int = 1) -> int:
    """Numbers that each of `ranks` holds, a tied output head counted as the second copy it becomes."""
    stored = sum(math.prod(shape) for shape in share_tensors(config, ranks).values())
    head = math.prod(share_shape(HEAD, (config.vocab, config.hidden), ranks))
    return stored + (head if config.tied else 0)

"""Tiny models of every family with random weights, in transformers and for the core."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch
import transformers
from torch import Tensor

from tokenmill.engine.local.core import DTYPES, Core, Output
from tokenmill.engine.local.weights import plain_name
from tokenmill.model.config import ModelConfig, read_config
from tokenmill.request import Sampling

VOCAB = 307
CONTEXT = 192

LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "eos_token_id": None,
    "bos_token_id": None,
    "pad_token_id": 0,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}

#: By name: class of transformers and what its configuration says.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", {"vocab_size": VOCAB, "n_positions": CONTEXT, "n_embd": 48, "n_layer": 2, "n_head": 4,
                      "initializer_range": 0.3, "eos_token_id": None, "bos_token_id": None, "pad_token_id": 0}),
    "llama": ("Llama", LLAMA | {"rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": False}),
    "llama-tied": ("Llama", LLAMA | {"rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True}),
    "llama-biased": ("Llama", LLAMA | {"rope_parameters": LINEAR_ROPE, "tie_word_embeddings": False,
                                       "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 6}),
    "mistral": ("Mistral", LLAMA | {"sliding_window": 24, "tie_word_embeddings": False}),
    "qwen2": ("Qwen2", LLAMA | {"tie_word_embeddings": True, "use_sliding_window": False}),
    "qwen3": ("Qwen3", LLAMA | {"tie_word_embeddings": True, "head_dim": 16}),
}  # fmt: skip


def make_reference(name: str, dtype: str) -> Any:
    """The model in transformers. Vectors that start as zeros or ones are random too, or a lost one would not show."""
    kind, settings = MODELS[name]
    torch.manual_seed(17)
    config = getattr(transformers, f"{kind}Config")(**settings)
    model = getattr(transformers, f"{kind}{'LMHeadModel' if kind == 'GPT2' else 'ForCausalLM'}")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.to(DTYPES[dtype]).eval()


def named_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors under the names the loader gives them."""
    for name, tensor in model.state_dict().items():
        yield plain_name(name), tensor.detach().clone()


def describe(model: Any) -> ModelConfig:
    """What the loader says of the model."""
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        return read_config(Path(folder))


def make_core(model: Any, dtype: str, slots: int, kv_tokens: int | None = None, **changes: Any) -> Core:
    """A core with the weights of `model`; KV memory for every slot to its full length unless `kv_tokens` says less."""
    config = msgspec.structs.replace(describe(model), **changes)
    token_bytes = 2 * config.layers * config.kv_heads * config.head_dim * DTYPES[dtype].itemsize
    memory = (kv_tokens or slots * config.context) * token_bytes
    return Core(config, named_weights(model), slots=slots, kv_memory=memory, dtype=dtype, threads=1)


def ragged_requests(count: int, seed: int) -> list[tuple[list[int], int]]:
    """Prompts of 1 to 60 tokens with 1 to 60 tokens to generate."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 61, (count, 2), generator=generator).tolist()
    return [(torch.randint(0, VOCAB, (prompt,), generator=generator).tolist(), limit) for prompt, limit in lengths]


def answer(core: Core, requests: list[tuple[list[int], Sampling, int]]) -> list[list[int]]:
    """The tokens of each request, all submitted at once; (prompt, sampling, seed)."""
    for key, (prompt, sampling, seed) in enumerate(requests):
        core.submit(key, prompt, sampling, seed)
    answers: list[list[int]] = [[] for _ in requests]
    for output in outputs_of(core):
        if output.finish != "stop":
            answers[output.key].append(output.token)
    return answers


def outputs_of(core: Core) -> Iterator[Output]:
    while core.has_work:
        yield from core.step().outputs

"""Configurations of models that many people know by name, as their makers published them.

Only what decides sizes is kept, under the keys of config.json, so that every figure is computed from it like from a
file; the tests compare the numbers of parameters with the published ones.
"""

from __future__ import annotations

from msgspec import Struct


class Known(Struct, frozen=True, kw_only=True):
    """A configuration, and the repository of the hub whose config.json says so."""

    repository: str
    config: dict[str, object]


def _gpt2(repository: str, hidden: int, layers: int, heads: int) -> Known:
    config: dict[str, object] = {"model_type": "gpt2", "n_embd": hidden, "n_layer": layers, "n_head": heads}
    return Known(repository=repository, config=config | {"vocab_size": 50257, "n_positions": 1024})


def _llama_type(
    repository: str,
    kind: str,
    sizes: tuple[int, int, int, int, int],
    vocab: int,
    context: int,
    **more: object,
) -> Known:
    """`sizes`: hidden, intermediate, layers, heads, heads of keys and values."""
    hidden, intermediate, layers, heads, kv_heads = sizes
    config: dict[str, object] = {
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "torch_dtype": "bfloat16",
    }
    return Known(repository=repository, config=config | more)


_MIXTURE: dict[str, object] = {"num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None}

KNOWN = {
    "gpt2": _gpt2("openai-community/gpt2", 768, 12, 12),
    "gpt2-medium": _gpt2("openai-community/gpt2-medium", 1024, 24, 16),
    "gpt2-large": _gpt2("openai-community/gpt2-large", 1280, 36, 20),
    "gpt2-xl": _gpt2("openai-community/gpt2-xl", 1600, 48, 25),
    "llama-2-7b": _llama_type(
        "meta-llama/Llama-2-7b-hf", "llama", (4096, 11008, 32, 32, 32), 32000, 4096, torch_dtype="float16"
    ),
    "llama-3-8b": _llama_type("meta-llama/Meta-Llama-3-8B", "llama", (4096, 14336, 32, 32, 8), 128256, 8192),
    "llama-3-70b": _llama_type("meta-llama/Meta-Llama-3-70B", "llama", (8192, 28672, 80, 64, 8), 128256, 8192),
    "llama-3.2-1b": _llama_type(
        "meta-llama/Llama-3.2-1B", "llama", (2048, 8192, 16, 32, 8), 128256, 131072, tie_word_embeddings=True
    ),
    "llama-3.2-3b": _llama_type(
        "meta-llama/Llama-3.2-3B", "llama", (3072, 8192, 28, 24, 8), 128256, 131072, tie_word_embeddings=True
    ),
    "mistral-7b": _llama_type(
        "mistralai/Mistral-7B-v0.1", "mistral", (4096, 14336, 32, 32, 8), 32000, 32768, sliding_window=4096
    ),
    "mixtral-8x7b": _llama_type(
        "mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral", (4096, 14336, 32, 32, 8), 32000, 32768, **_MIXTURE
    ),
    "mixtral-8x22b": _llama_type(
        "mistralai/Mixtral-8x22B-v0.1", "mixtral", (6144, 16384, 56, 48, 8), 32000, 65536, **_MIXTURE
    ),
    "qwen2.5-7b": _llama_type("Qwen/Qwen2.5-7B", "qwen2", (3584, 18944, 28, 28, 4), 152064, 131072),
    "qwen3-8b": _llama_type("Qwen/Qwen3-8B", "qwen3", (4096, 12288, 36, 32, 8), 151936, 40960, head_dim=128),
}

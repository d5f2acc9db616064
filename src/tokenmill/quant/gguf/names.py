"""The tensors of a model folder, and what each is called, how it is shaped and arranged in a GGUF file.

Queries and keys of llama and mistral are permuted: ggml turns neighbouring numbers of a head, transformers the two
halves. GPT-2 stores its matrices transposed (Conv1D).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from tokenmill.model.config import ModelConfig
from tokenmill.quant.layout import PLAIN, TRANSPOSED, Arrangement, permuted

#: Buffers that old files have among the weights; they follow from the configuration.
BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
#: What the names of a whole model begin with; those of its body alone don't.
PREFIXES = ("model.", "transformer.")


class Expected(Struct, frozen=True):
    """A tensor that a model must have: its name in a GGUF file, its shape in the folder, and its arrangement."""

    name: str
    shape: tuple[int, ...]
    arrangement: Arrangement = PLAIN


def plain_name(name: str) -> str | None:
    """A tensor's name without what models put before it; None for a buffer that isn't needed."""
    if name.endswith(BUFFERS):
        return None
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def expected(config: ModelConfig) -> Mapping[str, Expected]:
    """Every tensor of such a model by its plain name."""
    found = _gpt2(config) if config.family == "gpt2" else _llama(config)
    if not config.tied:
        found["lm_head.weight"] = Expected("output.weight", (config.vocab, config.hidden))
    return found


def _llama(config: ModelConfig) -> dict[str, Expected]:
    hidden = config.hidden
    found = {
        "embed_tokens.weight": Expected("token_embd.weight", (config.vocab, hidden)),
        "norm.weight": Expected("output_norm.weight", (hidden,)),
    }
    for layer in range(config.layers):
        for source, part in _llama_layer(config).items():
            found[f"layers.{layer}.{source}"] = Expected(f"blk.{layer}.{part.name}", part.shape, part.arrangement)
    return found


def _llama_layer(config: ModelConfig) -> dict[str, Expected]:
    hidden, inner = config.hidden, config.intermediate
    wide, narrow = config.heads * config.head_dim, config.kv_heads * config.head_dim
    turns = config.family in ("llama", "mistral")
    queries, keys = (permuted(config.heads), permuted(config.kv_heads)) if turns else (PLAIN, PLAIN)
    attention = {
        "q_proj": Expected("attn_q", (wide, hidden), queries),
        "k_proj": Expected("attn_k", (narrow, hidden), keys),
        "v_proj": Expected("attn_v", (narrow, hidden)),
        "o_proj": Expected("attn_output", (hidden, wide)),
    }
    mlp = {
        "gate_proj": Expected("ffn_gate", (inner, hidden)),
        "up_proj": Expected("ffn_up", (inner, hidden)),
        "down_proj": Expected("ffn_down", (hidden, inner)),
    }
    biased = {"q_proj", "k_proj", "v_proj"} if config.attention_bias else set()
    biased |= {"o_proj"} if config.output_bias else set()
    biased |= set(mlp) if config.mlp_bias else set()
    found = {
        "input_layernorm.weight": Expected("attn_norm.weight", (hidden,)),
        "post_attention_layernorm.weight": Expected("ffn_norm.weight", (hidden,)),
    }
    if config.qk_norm:
        found["self_attn.q_norm.weight"] = Expected("attn_q_norm.weight", (config.head_dim,))
        found["self_attn.k_norm.weight"] = Expected("attn_k_norm.weight", (config.head_dim,))
    for module, parts in (("self_attn", attention), ("mlp", mlp)):
        for source, part in parts.items():
            found[f"{module}.{source}.weight"] = Expected(f"{part.name}.weight", part.shape, part.arrangement)
            if source in biased:
                found[f"{module}.{source}.bias"] = Expected(f"{part.name}.bias", part.shape[:1], part.arrangement)
    return found


def _gpt2(config: ModelConfig) -> dict[str, Expected]:
    hidden, inner = config.hidden, config.intermediate
    layer = {
        "ln_1": Expected("attn_norm", (hidden,)),
        "attn.c_attn": Expected("attn_qkv", (hidden, 3 * hidden), TRANSPOSED),
        "attn.c_proj": Expected("attn_output", (hidden, hidden), TRANSPOSED),
        "ln_2": Expected("ffn_norm", (hidden,)),
        "mlp.c_fc": Expected("ffn_up", (hidden, inner), TRANSPOSED),
        "mlp.c_proj": Expected("ffn_down", (inner, hidden), TRANSPOSED),
    }
    found = {
        "wte.weight": Expected("token_embd.weight", (config.vocab, hidden)),
        "wpe.weight": Expected("position_embd.weight", (config.context, hidden)),
        "ln_f.weight": Expected("output_norm.weight", (hidden,)),
        "ln_f.bias": Expected("output_norm.bias", (hidden,)),
    }
    for number in range(config.layers):
        for source, part in layer.items():
            name = f"blk.{number}.{part.name}"
            found[f"h.{number}.{source}.weight"] = Expected(f"{name}.weight", part.shape, part.arrangement)
            found[f"h.{number}.{source}.bias"] = Expected(f"{name}.bias", part.shape[-1:])
    return found

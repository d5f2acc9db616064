"""The tensors of a model folder, and what each is called, how it is shaped and arranged in a GGUF file.

Queries and keys of llama and mistral are permuted: ggml turns neighbouring numbers of a head, transformers the two
halves. GPT-2 stores its matrices transposed (Conv1D).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from tokenmill.model.config import ModelConfig
from tokenmill.model.tensors import expected_tensors
from tokenmill.quant.layout import PLAIN, TRANSPOSED, Arrangement, permuted

#: Buffers that old files have among the weights; they follow from the configuration.
BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
#: What the names of a whole model begin with; those of its body alone don't.
PREFIXES = ("model.", "transformer.")

#: What is part of the positions' arithmetic and not of the weights.
ROPE_FACTORS = "rope_freqs.weight"
#: Families whose queries and keys are permuted.
ROTATED = ("llama", "mistral")

_LLAMA = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LLAMA_WHOLE = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
_GPT2 = {
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_GPT2_WHOLE = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "lm_head": "output"}


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
    return {
        name: Expected(_name(name, config.family), shape, _arrangement(name, config))
        for name, shape in expected_tensors(config).items()
    }


def _name(name: str, family: str) -> str:
    layers, whole = (_GPT2, _GPT2_WHOLE) if family == "gpt2" else (_LLAMA, _LLAMA_WHOLE)
    part, _, kind = name.rpartition(".")
    if part in whole:
        return f"{whole[part]}.{kind}"
    _, number, module = part.split(".", 2)
    return f"blk.{number}.{layers[module]}.{kind}"


def _arrangement(name: str, config: ModelConfig) -> Arrangement:
    part, _, kind = name.rpartition(".")
    if config.family == "gpt2":
        is_linear = part.startswith("h.") and ".ln_" not in part
        return TRANSPOSED if is_linear and kind == "weight" else PLAIN
    if config.family in ROTATED and part.endswith("self_attn.q_proj"):
        return permuted(config.heads)
    if config.family in ROTATED and part.endswith("self_attn.k_proj"):
        return permuted(config.kv_heads)
    return PLAIN

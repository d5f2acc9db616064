"""The tensors of GGUF files by the names that transformers, and so the local engine, gives them."""

from __future__ import annotations

import re

_LAYER = re.compile(r"blk\.(\d{1,4})\.(\w+)\.(weight|bias)")
_LLAMA = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LLAMA_WHOLE = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
_GPT2 = {
    "attn_norm": "ln_1",
    "ffn_norm": "ln_2",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_GPT2_WHOLE = {"token_embd": "wte", "position_embd": "wpe", "output_norm": "ln_f", "output": "lm_head"}
#: What is part of the positions' arithmetic and not of the weights.
ROPE_FACTORS = "rope_freqs.weight"


def plain_name(name: str, family: str) -> str | None:
    """The engine's name for a tensor of a model of this family; None for one that has no place in it."""
    layers, whole = (_GPT2, _GPT2_WHOLE) if family == "gpt2" else (_LLAMA, _LLAMA_WHOLE)
    if found := _LAYER.fullmatch(name):
        number, part, kind = found.groups()
        prefix = "h" if family == "gpt2" else "layers"
        return f"{prefix}.{int(number)}.{layers[part]}.{kind}" if part in layers else None
    part, _, kind = name.rpartition(".")
    return f"{whole[part]}.{kind}" if part in whole and kind in ("weight", "bias") else None

"""Which tensors a model has, by its configuration.

Names are stated without the prefix of the base model (`transformer.` of GPT-2, `model.` of the others), which some
files carry and others don't.
"""

from __future__ import annotations

from tokenmill.model.config import ModelConfig


def expected_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Plain name and shape of every tensor of the model; the head only where it isn't the embedding."""
    expected = _gpt2_tensors(config) if config.family == "gpt2" else _llama_type_tensors(config)
    if not config.tied:
        expected["lm_head.weight"] = (config.vocab, config.hidden)
    return expected


def _gpt2_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """GPT-2 stores its linears as [inputs, outputs]."""
    hidden, inner = config.hidden, config.intermediate
    expected: dict[str, tuple[int, ...]] = {
        "wte.weight": (config.vocab, hidden),
        "wpe.weight": (config.context, hidden),
        "ln_f.weight": (hidden,),
        "ln_f.bias": (hidden,),
    }
    linears = {
        "attn.c_attn": (hidden, 3 * hidden),
        "attn.c_proj": (hidden, hidden),
        "mlp.c_fc": (hidden, inner),
        "mlp.c_proj": (inner, hidden),
    }
    for layer in range(config.layers):
        for norm in ("ln_1", "ln_2"):
            expected[f"h.{layer}.{norm}.weight"] = expected[f"h.{layer}.{norm}.bias"] = (hidden,)
        for name, shape in linears.items():
            expected[f"h.{layer}.{name}.weight"] = shape
            expected[f"h.{layer}.{name}.bias"] = shape[1:]
    return expected


def _llama_type_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Linears are stored as [outputs, inputs]."""
    hidden, inner = config.hidden, config.intermediate
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    expected: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (config.vocab, hidden), "norm.weight": (hidden,)}
    linears = {
        "self_attn.q_proj": (queries, hidden, config.attention_bias),
        "self_attn.k_proj": (keys, hidden, config.attention_bias),
        "self_attn.v_proj": (keys, hidden, config.attention_bias),
        "self_attn.o_proj": (hidden, queries, config.output_bias),
        "mlp.gate_proj": (inner, hidden, config.mlp_bias),
        "mlp.up_proj": (inner, hidden, config.mlp_bias),
        "mlp.down_proj": (hidden, inner, config.mlp_bias),
    }
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    if config.qk_norm:
        norms |= {"self_attn.q_norm": config.head_dim, "self_attn.k_norm": config.head_dim}
    for layer in range(config.layers):
        for name, size in norms.items():
            expected[f"layers.{layer}.{name}.weight"] = (size,)
        for name, (outputs, inputs, biased) in linears.items():
            expected[f"layers.{layer}.{name}.weight"] = (outputs, inputs)
            if biased:
                expected[f"layers.{layer}.{name}.bias"] = (outputs,)
    return expected

"""GGUF files for the loader's tests, written by the format's own package from models of transformers.

It follows llama.cpp's converter: names, turned matrices of GPT-2, and for Llama's architecture the rows of queries and
keys in pairs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tokenmill.engine.local.gguf.tokenizer import BYTE, CONTROL, NORMAL, UNKNOWN, USER

TYPES = {name: getattr(gguf.GGMLQuantizationType, name) for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1")}
LLAMA_TYPE = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
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
GPT2 = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def write_gguf(
    path: Path,
    model: Any,
    tokenizer: Tokenizer,
    kind: str = "F32",
    *,
    keys: Mapping[str, Any] | None = None,
    factors: Any = None,
    architecture: str = "",
    integers: str = "",
    **settings: Any,
) -> None:
    """The model as one file; matrices have the type `kind` where their width allows it.

    `keys` replace what the metadata would say, `factors` are those of rotations, and the tensor `integers` has a type
    that no weights have.
    """
    config = model.config
    architecture = architecture or {"mistral": "llama"}.get(config.model_type, config.model_type)
    writer = gguf.GGUFWriter(path, architecture)
    if architecture == "gpt2":
        add_gpt2(writer, config)
    else:
        add_llama_type(writer, config)
    add_tokenizer(writer, tokenizer, config, **settings)
    for key, value in (keys or {}).items():
        writer.kv_data[0].pop(key, None)
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.float().numpy()
        if renamed(name, config.model_type == "gpt2") == integers:
            writer.add_tensor(integers, values.astype(np.int8))
        else:
            add_tensor(writer, name, values, config, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_gpt2(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def add_llama_type(writer: gguf.GGUFWriter, config: Any) -> None:
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])


def add_tokenizer(
    writer: gguf.GGUFWriter,
    tokenizer: Tokenizer,
    config: Any,
    pre: str = "gpt-2",
    template: str | None = None,
    begins: bool | None = None,
) -> None:
    """Vocabulary and merges; sentencepiece's where there are byte tokens, with scores that say the merges' order."""
    vocabulary = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    added = {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
    stated = tokenizer.model.__getstate__()
    merges = stated_merges(stated)
    pieces = any(token == "<0x00>" for token, _ in vocabulary)
    kinds = [kind_of(token, added.get(token)) for token, _ in vocabulary]
    writer.add_tokenizer_model("llama" if pieces else "gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types(kinds)
    if pieces:
        ranks = {left + right: rank for rank, (left, right) in reversed(list(enumerate(merges)))}
        writer.add_token_scores([-float(ranks.get(token, len(ranks))) for token, _ in vocabulary])
    else:
        writer.add_tokenizer_pre(pre)
        writer.add_token_merges([f"{left} {right}" for left, right in merges])
    writer.add_bos_token_id(dict(vocabulary).get("<s>", config.bos_token_id))
    writer.add_eos_token_id(dict(vocabulary).get("</s>", config.eos_token_id))
    if begins is not None:
        writer.add_add_bos_token(begins)
    if "<unk>" in dict(vocabulary):
        writer.add_unk_token_id(dict(vocabulary)["<unk>"])
    if template is not None:
        writer.add_chat_template(template)


def stated_merges(stated: bytes) -> list[tuple[str, str]]:
    return [tuple(merge) for merge in json.loads(stated)["merges"]]


def kind_of(token: str, added: Any) -> int:
    if token == "<unk>":
        return UNKNOWN
    if added is not None:
        return CONTROL if added.special else USER
    return BYTE if len(token) == 6 and token.startswith("<0x") else NORMAL


def add_tensor(writer: gguf.GGUFWriter, name: str, values: Any, config: Any, kind: str) -> None:
    gpt2 = config.model_type == "gpt2"
    if gpt2 and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        values = values.T
    if config.model_type in ("llama", "mistral"):
        if ".q_proj." in name:
            values = in_pairs(values, config.num_attention_heads)
        if ".k_proj." in name:
            values = in_pairs(values, config.num_key_value_heads)
    values = np.ascontiguousarray(values)
    chosen = TYPES[kind] if values.ndim == 2 and values.shape[1] % gguf.GGML_QUANT_SIZES[TYPES[kind]][0] == 0 else None
    chosen = TYPES["F32"] if chosen is None else chosen
    writer.add_tensor(renamed(name, gpt2), gguf.quants.quantize(values, chosen), raw_dtype=chosen)


def in_pairs(values: Any, heads: int) -> Any:
    return values.reshape(heads, 2, len(values) // heads // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def renamed(name: str, gpt2: bool) -> str:
    parts, (module, _, kind) = GPT2 if gpt2 else LLAMA_TYPE, name.rpartition(".")
    if module in parts:
        return f"{parts[module]}.{kind}"
    _, _, number, part = module.split(".", 3)
    return f"blk.{number}.{parts[part]}.{kind}"


#: The expressions as the models' own tokenizer.json files have them.
GGUF_DIVISIONS: dict[str, list[Any]] = {
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)],
    "smollm": [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ],
    "llama-bpe": [
        pre_tokenizers.Split(
            Regex(
                "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
                "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
            ),
            "isolated",
        ),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ],
    "qwen2": [
        pre_tokenizers.Split(
            Regex(
                "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
                "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
            ),
            "isolated",
        ),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ],
}


def divided_tokenizer(pre: str) -> Tokenizer:
    """Byte-level BPE with the division of that name, and many tokens that reach over words' ends if they can."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.normalizer = normalizers.NFC() if pre == "qwen2" else None
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=390,
        special_tokens=["<|end|>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["a'll 123 45678\n\n  won't.\r\n", *SPANNING], trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(GGUF_DIVISIONS[pre])
    return tokenizer


SPANNING = ["12345 1,000.50", "can't WON'T I'LL", "a\r\n\r\nb\t\tc", "x ** 2  # o/"] * 3

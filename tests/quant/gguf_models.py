"""Tiny model folders of every family that a GGUF file can be made of, with tokenizers like those of real models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from msgspec import Struct
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from engine.loader.saved_models import MODELS, SIZES, TEXTS, edit_json, save_tokenizer, sentencepiece_tokenizer

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
VOCAB = 400


class Case(Struct, frozen=True):
    """A model by its classes and sizes, and its tokenizer with the settings of tokenizer_config.json."""

    model: tuple[str, str, dict[str, Any]]
    tokenizer: Callable[[], Tokenizer]
    settings: dict[str, Any]


def byte_level(
    expression: str | None, specials: list[str], begin: str | None = None, ignore_merges: bool = False
) -> Tokenizer:
    """Byte-level BPE that splits by `expression` (None: as GPT-2 does), and puts `begin` before every text."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=expression is None)
    split = [] if expression is None else [pre_tokenizers.Split(Regex(expression), "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, last]) if split else last
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=[], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.add_special_tokens(specials)
    tokenizer.add_tokens(["<think>", "zzq"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if begin:
        template = processors.TemplateProcessing(
            single=[begin, "$A"],
            pair=[begin, "$A", f"{begin}:1", "$B:1"],
            special_tokens=[(begin, tokenizer.token_to_id(begin))],
        )
        tokenizer.post_processor = processors.Sequence([tokenizer.post_processor, template])
    return tokenizer


def _of_llama3() -> Tokenizer:
    specials = ["<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>"]
    return byte_level(LLAMA3, specials, "<|begin_of_text|>", ignore_merges=True)


def _of_qwen() -> Tokenizer:
    return byte_level(QWEN2, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])


_PIECES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_QWEN = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
_GPT2 = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>") | {"add_prefix_space": False}
CASES = {
    "gpt2": Case(MODELS["gpt2"], lambda: byte_level(None, ["<|endoftext|>"]), _GPT2),
    "llama": Case(
        ("LlamaConfig", "LlamaForCausalLM", SIZES | {"rope_parameters": LLAMA3_ROPE, "head_dim": 8}),
        _of_llama3,
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": "{{ messages }}"},
    ),
    "llama_biased": Case(
        MODELS["llama_biased"], sentencepiece_tokenizer, _PIECES | {"add_bos_token": True, "add_eos_token": False}
    ),
    "mistral": Case(
        ("MistralConfig", "MistralForCausalLM", SIZES | {"sliding_window": None, "head_dim": 8}),
        sentencepiece_tokenizer,
        _PIECES,
    ),
    "qwen2": Case(MODELS["qwen2"], _of_qwen, _QWEN | {"add_bos_token": False}),
    "qwen3": Case(
        MODELS["qwen3"],
        _of_qwen,
        _QWEN | {"chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]},
    ),
}


def save(folder: Path, name: str, **sizes: Any) -> Path:
    """Writes the model of that name, with random weights of BF16, and `sizes` in place of its own."""
    case = CASES[name]
    config_class, model_class, usual = case.model
    numbers = {"bos_token_id": 1, "eos_token_id": 2, "vocab_size": VOCAB}
    config = getattr(transformers, config_class)(**(usual | numbers | sizes))
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.to(torch.bfloat16).save_pretrained(folder)
    edit_json(folder / "config.json", **({"n_ctx": 64} if name == "gpt2" else {}))
    save_tokenizer(folder, case.tokenizer(), tokenizer_class="PreTrainedTokenizerFast", **case.settings)
    return folder

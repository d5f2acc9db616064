"""Model folders for the loader's tests: tiny models of every family, written by transformers itself."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

transformers.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 400,
    "max_position_embeddings": 64,
}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}),
    "llama": ("LlamaConfig", "LlamaForCausalLM", SIZES),
    "llama_biased": ("LlamaConfig", "LlamaForCausalLM", SIZES | {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("MistralConfig", "MistralForCausalLM", SIZES | {"sliding_window": 8, "head_dim": 6}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", SIZES | {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", SIZES | {"head_dim": 8}),
}
TEXTS = [
    "The quick brown fox jumps over the lazy dog, twice.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "1 2 3, four five; six!   spaces\tand\n\nlines",
    "日本語のテキスト と 한국어 🙂",
]


def make_model(name: str) -> Any:
    """The model of that name with random weights, always the same."""
    config_class, model_class, sizes = MODELS[name]
    torch.manual_seed(0)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "vocab_size": 400}
    return getattr(transformers, model_class)(getattr(transformers, config_class)(**(sizes | ids)))


def save_model(folder: Path, name: str, **how: Any) -> Any:
    """Writes the model as transformers does, and returns it."""
    model = make_model(name)
    model.save_pretrained(folder, **how)
    return model


def edit_json(path: Path, **changes: object) -> None:
    """Sets keys of a JSON file; `...` removes one."""
    values = json.loads(path.read_text()) if path.exists() else {}
    values |= changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


@cache
def byte_level_tokenizer() -> Tokenizer:
    """Byte-level BPE as GPT-2 and Qwen have it; the special tokens are the first three ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<|end|>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_tokens(["<think>", "é̂"])
    return tokenizer


@cache
def sentencepiece_tokenizer() -> Tokenizer:
    """BPE with byte fallback and a beginning token, as Llama 2 has it."""
    alphabet = sorted({sign for text in TEXTS[:3] for sign in text.replace(" ", "▁")})
    words = ["▁", "<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *alphabet]
    pieces = [("t", "h"), ("▁", "t"), ("▁t", "he"), ("h", "e"), ("▁", "▁")]
    joined = [one + two for one, two in pieces]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words + joined))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pieces, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["<s>", "$A"], special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return tokenizer


@cache
def metaspace_tokenizer() -> Tokenizer:
    """BPE between metaspaces, whose decoder drops the first space."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>"], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


TOKENIZERS = {
    "byte level": byte_level_tokenizer,
    "sentencepiece": sentencepiece_tokenizer,
    "metaspace": metaspace_tokenizer,
}


def save_tokenizer(folder: Path, tokenizer: Tokenizer, **settings: object) -> None:
    """tokenizer.json and tokenizer_config.json."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))

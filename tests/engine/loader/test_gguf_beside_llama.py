"""llama.cpp and the local engine take one GGUF file for the same model: the same tokens, the same choices."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from engine.loader.saved_models import byte_level_tokenizer, save_tokenizer, sentencepiece_tokenizer
from engine.loader.test_gguf import ODD
from engine.local.reference_models import answer
from quant.compressing import small, wide_model
from requirements import require
from tokenmill.engine.local.core import Core
from tokenmill.engine.local.folder import ModelFolder
from tokenmill.engine.local.weights import load_weights
from tokenmill.request import Sampling

PROMPT = [5, 17, 300, 42, 7, 399, 260, 11]
ANSWER = 24
#: How far, of the largest logit, a choice of ours may be behind llama.cpp's best. It rounds what is multiplied with
#: quantized weights to 8 bits itself, and floats to their 16.
BEHIND = {"f32": 2e-3, "q8_0": 0.05, "q4_k_m": 0.05}
SIZES = {"hidden_size": 256, "num_hidden_layers": 3, "head_dim": 64}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
MODELS = {
    "llama": ("llama", SIZES),
    "llama 3": ("llama", SIZES | {"rope_parameters": LLAMA_3}),
    "biased": ("llama_biased", SIZES),
    "qwen2": ("qwen2", SIZES),
    "qwen3": ("qwen3", SIZES),
    "gpt2": ("gpt2", {"n_embd": 256, "n_head": 4}),
}
#: Every family with its own weights, and quantized ones where that makes a difference: rows in pairs, matrices turned.
CASES = [
    *((name, "f32") for name in MODELS if name != "llama"),
    ("llama", "q8_0"),
    ("gpt2", "q8_0"),
    ("biased", "q4_k_m"),
]


def made(path: Path, name: str, to: str) -> Path:
    """The model as a GGUF file of that type, with weights large enough that its choices mean something."""
    kind, sizes = MODELS[name]
    make = sentencepiece_tokenizer if kind == "llama" else byte_level_tokenizer
    begin, end = (make().token_to_id(token) for token in ("<s>", "</s>"))
    model = wide_model(kind, torch.float32, bos_token_id=begin, eos_token_id=end, **sizes)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.mul_(3 if tensor.ndim > 1 else 1)
    model.save_pretrained(path / "model")
    save_tokenizer(path / "model", make(), bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    small(path / "model", path / "model.gguf", to)
    return path / "model.gguf"


@pytest.mark.parametrize(("name", "to"), CASES)
def test_both_choose_the_same_tokens(tmp_path: Path, name: str, to: str) -> None:
    """Each token that the engine chose is llama.cpp's best at its place, or as good but for llama.cpp's rounding."""
    require("ggml")
    from quant.llama import loaded

    path = made(tmp_path, name, to)
    file = ModelFolder(path)
    config = msgspec.structs.replace(file.config, eos_ids=())
    core = Core(config, load_weights(file.index, torch.float32), slots=1, kv_memory=1 << 24, dtype="fp32")
    (chosen,) = answer(core, [(PROMPT, Sampling(max_tokens=ANSWER), 0)])
    with loaded(path) as llama:
        logits = torch.from_numpy(llama.logits([*PROMPT, *chosen]))[len(PROMPT) - 1 : -1]

    behind = logits.max(1).values - logits[torch.arange(ANSWER), torch.tensor(chosen)]
    assert len(chosen) == ANSWER
    assert (behind <= BEHIND[to] * logits.abs().max(1).values).all()
    assert (behind == 0).sum() >= 0.75 * ANSWER


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_both_split_texts_alike(tmp_path: Path, name: str) -> None:
    """Special tokens in the text count, and what begins a text is put there by both or by none."""
    require("ggml")
    from quant.llama import loaded

    path = made(tmp_path, name, "q8_0")
    file = ModelFolder(path)
    with loaded(path) as llama:
        for text in ODD:
            if text.isascii() and text.strip() == text:
                assert llama.tokens(text) == file.tokenizer.encode(text, add_special=True), text

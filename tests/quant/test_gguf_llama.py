"""llama.cpp loads our files, splits text as the model's own tokenizer does, answers alike and quantizes alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from engine.loader.saved_models import TEXTS
from quant.gguf_files import Read, make
from quant.gguf_models import CASES, save
from quant.llama import loaded, quantized
from requirements import require
from tokenmill.quant.gguf.mixes import mix_of

WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8, "num_key_value_heads": 4}
#: Models whose rows fit every group, and one whose rows fit some or none.
WIDTHS = {
    "llama": ("llama", WIDE | {"num_hidden_layers": 9, "head_dim": 32}),
    "qwen2": ("qwen2", WIDE | {"num_hidden_layers": 4}),
    "gpt2": ("gpt2", {"n_embd": 256, "n_layer": 5, "n_head": 4}),
    "odd": ("llama", WIDE | {"num_hidden_layers": 8, "hidden_size": 160, "intermediate_size": 272, "head_dim": 16}),
}


@pytest.mark.parametrize("name", CASES)
def test_llama_answers_as_transformers_does(tmp_path: Path, name: str) -> None:
    """The logits of our file in llama.cpp are those of the folder in transformers, but for rounding."""
    require("ggml")
    folder = save(tmp_path / name, name)
    make(folder, "f32", tmp_path / "m.gguf")
    tokens = [5, 17, 300, 42, 7, 399, 260, 11, 12, 13, 14, 90]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0].numpy()
    with loaded(tmp_path / "m.gguf") as llama:
        found = llama.logits(tokens)
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize("name", CASES)
def test_llama_splits_text_as_the_tokenizer_does(tmp_path: Path, name: str) -> None:
    """Text becomes the same tokens, with the same token before it where the tokenizer puts one there."""
    require("ggml")
    folder = save(tmp_path / name, name)
    make(folder, "q8_0", tmp_path / "m.gguf")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    with loaded(tmp_path / "m.gguf") as llama:
        for text in [*TEXTS, "they're 12345 <think>zzq I'LL  go", "x"]:
            assert llama.tokens(text) == tokenizer.encode(text).ids, text


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of WIDTHS, as folders and as GGUF files of BF16."""
    require("ggml")
    root = tmp_path_factory.mktemp("wide")
    for width, (name, sizes) in WIDTHS.items():
        make(save(root / width, name, **sizes), "bf16", root / f"{width}.gguf")
    return root


@pytest.mark.parametrize(
    ("width", "mix"),
    [
        *(("llama", mix) for mix in ("q8_0", "q4_0", "q4_k_s", "q4_k_m", "q5_k_m", "q6_k")),
        *((width, mix) for width in ("qwen2", "gpt2", "odd") for mix in ("q4_0", "q4_k_m")),
    ],
)
def test_files_are_those_of_llama_quantize(wide: Path, tmp_path: Path, width: str, mix: str) -> None:
    """From a folder and from a GGUF file we make the keys, types and bytes that llama.cpp's own quantizer makes."""
    quantized(wide / f"{width}.gguf", tmp_path / "theirs.gguf", mix_of(mix).file_type)
    theirs = Read(tmp_path / "theirs.gguf")
    for source in (wide / width, wide / f"{width}.gguf"):
        make(source, mix, tmp_path / "ours.gguf")
        ours = Read(tmp_path / "ours.gguf")
        assert ours.keys == theirs.keys
        assert ours.tensors == theirs.tensors
        assert [name for name in ours.data if not np.array_equal(ours.data[name], theirs.data[name])] == []

"""A model folder becomes the GGUF file that llama.cpp's converter makes of it, and what can't is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.loader.saved_models import edit_json, metaspace_tokenizer, save_tokenizer
from quant.gguf_files import Read, digested, make
from quant.gguf_models import CASES, VOCAB, save
from tokenmill.errors import TokenmillError, UsageError
from tokenmill.model.files import BadModel

#: What llama.cpp's converter wrote for the same folders, as BF16, with the names of the rules to split by given.
CONVERTED = json.loads((Path(__file__).parent / "golden" / "gguf_converted.json").read_text())
#: Keys in which we differ from it: it pads no vocabulary to the rows of the embedding, so llama.cpp refuses its file,
#: and it gives every piece the same score, so llama.cpp joins in the wrong order.
DIFFERENT = {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores"}
#: A family, a tensor of it and its name in GGUF, of each arrangement; then its rows by heads.
ARRANGED = [
    ("llama", "model.layers.1.self_attn.q_proj.weight", "blk.1.attn_q.weight", 4),
    ("llama", "model.layers.1.self_attn.k_proj.weight", "blk.1.attn_k.weight", 2),
    ("llama", "model.layers.1.self_attn.v_proj.weight", "blk.1.attn_v.weight", 0),
    ("llama_biased", "model.layers.0.self_attn.k_proj.bias", "blk.0.attn_k.bias", 2),
    ("qwen2", "model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight", 0),
    ("qwen3", "model.layers.0.self_attn.k_norm.weight", "blk.0.attn_k_norm.weight", 0),
    ("gpt2", "transformer.h.0.attn.c_attn.bias", "blk.0.attn_qkv.bias", 0),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of every family."""
    root = tmp_path_factory.mktemp("models")
    for name in CASES:
        save(root / name, name)
    return root


def copied(folders: Path, name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders / name, tmp_path / name))


@pytest.mark.parametrize("name", CASES)
def test_a_folder_becomes_what_the_converter_makes_of_it(folders: Path, tmp_path: Path, name: str) -> None:
    """Every key with its type and value, and every tensor with its type and shape, is that of llama.cpp's converter."""
    make(folders / name, "bf16", tmp_path / "m.gguf")
    ours, theirs = Read(tmp_path / "m.gguf"), CONVERTED[name]
    ignored = DIFFERENT if "tokenizer.ggml.scores" in ours.keys else set()
    keys: dict[str, Any] = {key: digested(field) for key, field in ours.keys.items() if key not in ignored}
    assert keys == {key: field for key, field in theirs["keys"].items() if key not in ignored}
    assert {tensor: [kind, list(shape)] for tensor, (kind, shape) in ours.tensors.items()} == theirs["tensors"]
    assert len(ours.keys["tokenizer.ggml.tokens"][1]) == VOCAB


@pytest.mark.parametrize(("name", "source", "target", "heads"), ARRANGED)
def test_rows_stand_where_ggml_wants_them(
    folders: Path, tmp_path: Path, name: str, source: str, target: str, heads: int
) -> None:
    """The halves of each head of queries and keys become pairs for llama; everything else keeps its order."""
    make(folders / name, "f32", tmp_path / "m.gguf")
    weights = load_file(folders / name / "model.safetensors")[source].float().numpy()
    if heads:
        halves = weights.reshape(heads, 2, -1, *weights.shape[1:])
        weights = np.stack([halves[:, 0], halves[:, 1]], axis=2).reshape(weights.shape)
    assert np.array_equal(Read(tmp_path / "m.gguf").floats(target), weights)


def test_matrices_of_gpt2_are_turned(folders: Path, tmp_path: Path) -> None:
    """Conv1D stores a matrix transposed, and a GGUF file doesn't."""
    make(folders / "gpt2", "f32", tmp_path / "m.gguf")
    weights = load_file(folders / "gpt2" / "model.safetensors")["transformer.h.1.mlp.c_fc.weight"].float().numpy()
    assert np.array_equal(Read(tmp_path / "m.gguf").floats("blk.1.ffn_up.weight"), weights.T)


def test_positions_of_llama3_are_stretched(folders: Path, tmp_path: Path) -> None:
    """What llama.cpp divides frequencies by is what transformers divides them by."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    make(folders / "llama", "q8_0", tmp_path / "m.gguf")
    config = LlamaConfig.from_pretrained(folders / "llama")
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 500000.0 ** (-np.arange(0, 8, 2) / 8)
    assert np.allclose(plain / Read(tmp_path / "m.gguf").floats("rope_freqs.weight"), frequencies.numpy(), rtol=1e-6)


def test_a_tied_head_is_stored_once(folders: Path, tmp_path: Path) -> None:
    """A head that is the embedding isn't written, even if the folder stores it again, and gets the head's type."""
    folder = copied(folders, "qwen2", tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}, folder / "model.safetensors")
    layout = make(folder, "q4_k_m", tmp_path / "m.gguf")
    found = Read(tmp_path / "m.gguf")
    assert "output.weight" not in found.tensors
    assert found.types["token_embd.weight"] == "F16"
    assert "rows of 16 weights" in layout.notes[0]


def test_a_body_alone_is_a_model_too(folders: Path, tmp_path: Path) -> None:
    """Names without what stands before them in a whole model are understood."""
    folder = copied(folders, "gpt2", tmp_path)
    weights = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    save_file(bare | {"h.0.attn.bias": torch.ones(1, 1, 4, 4)}, folder / "model.safetensors")
    make(folder, "q8_0", tmp_path / "m.gguf")
    make(folders / "gpt2", "q8_0", tmp_path / "whole.gguf")
    assert (tmp_path / "m.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_the_makers_sampling_is_kept(folders: Path, tmp_path: Path) -> None:
    """How the makers sample is written under the keys that llama.cpp reads."""
    folder = copied(folders, "qwen3", tmp_path)
    edit_json(folder / "generation_config.json", temperature=0.5, top_k=20, top_p=None)
    make(folder, "q8_0", tmp_path / "m.gguf")
    keys = Read(tmp_path / "m.gguf").keys
    assert keys["general.sampling.temp"] == (["FLOAT32"], 0.5)
    assert keys["general.sampling.top_k"] == (["INT32"], 20)
    assert "general.sampling.top_p" not in keys


def test_a_window_that_the_file_cannot_state_is_told(folders: Path, tmp_path: Path) -> None:
    """A window that every layer has is named in a note."""
    folder = copied(folders, "mistral", tmp_path)
    edit_json(folder / "config.json", sliding_window=8)
    layout = make(folder, "q8_0", tmp_path / "m.gguf")
    assert any("last 8 tokens" in note for note in layout.notes)


def without(name: str) -> Any:
    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        del weights[name]
        save_file(weights, folder / "model.safetensors")

    return change


def with_tensor(name: str, tensor: torch.Tensor) -> Any:
    def change(folder: Path) -> None:
        save_file(load_file(folder / "model.safetensors") | {name: tensor}, folder / "model.safetensors")

    return change


def with_json(file: str, **values: Any) -> Any:
    return lambda folder: edit_json(folder / file, **values)


QUERY = "model.layers.0.self_attn.q_proj.weight"
REFUSED = {
    "a missing tensor": (without(QUERY), "layers.0.self_attn.q_proj.weight"),
    "an unknown tensor": (with_tensor("model.layers.0.router.weight", torch.zeros(2, 2)), "isn't part of a llama"),
    "another shape": (with_tensor(QUERY, torch.zeros(16, 16)), "has the shape"),
    "another type": (with_tensor(QUERY, torch.zeros(32, 16, dtype=torch.int8)), "has type I8"),
    "another activation": (with_json("config.json", hidden_act="gelu"), "'gelu' can't be stated"),
    "too few rows": (with_json("tokenizer.json", added_tokens=[{"id": 400, "content": "x"}]), "has the number 400"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "neither tokenizer.json"),
    "a broken tokenizer": (with_json("tokenizer.json", added_tokens=[{"id": "x"}]), "isn't a valid tokenizer"),
    "another kind": (with_json("tokenizer.json", model={"type": "Unigram", "vocab": []}), "'Unigram'"),
    "another rule": (lambda folder: save_tokenizer(folder, metaspace_tokenizer()), "joins pieces neither"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_said_in_a_gguf_file_is_refused(folders: Path, tmp_path: Path, what: str) -> None:
    """Whatever llama.cpp would read otherwise than it is meant is refused, naming the tensor or file."""
    change, reason = REFUSED[what]
    folder = copied(folders, "llama", tmp_path)
    change(folder)
    with pytest.raises(TokenmillError, match=reason) as caught:
        make(folder, "q8_0", tmp_path / "m.gguf")
    assert str(folder) in str(caught.value)


def test_a_rule_without_a_name_is_told(folders: Path, tmp_path: Path) -> None:
    """A rule of splitting that llama.cpp has no name for is replaced, told, and the tokenizer goes along as it is."""
    folder = copied(folders, "llama", tmp_path)
    raw = (folder / "tokenizer.json").read_text().replace("{1,3}", "{1,2}")
    (folder / "tokenizer.json").write_text(raw)
    layout = make(folder, "q8_0", tmp_path / "m.gguf")
    keys = Read(tmp_path / "m.gguf").keys
    assert keys["tokenizer.ggml.pre"][1] == "gpt-2"
    assert keys["tokenizer.huggingface.json"][1] == raw
    assert any("no name for how" in note for note in layout.notes)


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        (("*.attn_nothing", "Q8_0"), "matches no tensor"),
        (("*_norm.weight", "Q8_0"), "matches only what stays as it is"),
        (("*attn_q*", "Q9_9"), "isn't an encoding"),
        (("*attn_q*", "W8A16"), "can't hold W8A16"),
        (("*attn_q*", "Q4_K"), "no multiple of the 256"),
    ],
)
def test_a_pattern_that_does_nothing_is_refused(
    folders: Path, tmp_path: Path, keep: tuple[str, str], reason: str
) -> None:
    """A pattern without effect, and a type that doesn't exist or fit, are errors."""
    with pytest.raises(UsageError, match=reason):
        make(folders / "llama", "q8_0", tmp_path / "m.gguf", keep)


def test_patterns_mean_either_name(folders: Path, tmp_path: Path) -> None:
    """A pattern matches names of the folder and of the file; where two match, the last counts."""
    keep = (("*.q_proj.weight", "F16"), ("blk.1.attn_q.weight", "BF16"), ("*embed_tokens*", "F32"))
    make(folders / "llama", "q8_0", tmp_path / "m.gguf", *keep)
    types = Read(tmp_path / "m.gguf").types
    found = types["blk.0.attn_q.weight"], types["blk.1.attn_q.weight"], types["token_embd.weight"]
    assert found == ("F16", "BF16", "F32")


def test_an_unknown_mix_names_the_near_ones(folders: Path, tmp_path: Path) -> None:
    """A mix that doesn't exist is refused with those that do."""
    with pytest.raises(UsageError, match="q4_k_m"):
        make(folders / "llama", "q4_k_l", tmp_path / "m.gguf")


def test_a_quantized_folder_is_refused(folders: Path, tmp_path: Path) -> None:
    """A folder whose configuration says that it is quantized is not quantized again."""
    folder = copied(folders, "llama", tmp_path)
    edit_json(folder / "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(BadModel, match="gptq"):
        make(folder, "q8_0", tmp_path / "m.gguf")

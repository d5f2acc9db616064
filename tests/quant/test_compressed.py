"""A folder of compressed-tensors is the one that its own package would write, and others load it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from engine.loader.saved_models import byte_level_tokenizer, edit_json, save_tokenizer
from quant.compressing import by_the_package, loaded, logits, small, tensors, wide_model
from tokenmill.engine.local.folder import ModelFolder
from tokenmill.engine.local.weights import load_weights
from tokenmill.errors import TokenmillError, UsageError

TYPES = ("w4a16", "w4a16-g32", "w8a16")


def saved(path: Path, name: str = "llama", dtype: torch.dtype = torch.bfloat16, **how: Any) -> Path:
    """A model's folder with a tokenizer."""
    wide_model(name, dtype, **how.pop("sizes", {})).save_pretrained(path / "model", **how)
    save_tokenizer(path / "model", byte_level_tokenizer())
    return path / "model"


def stated(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("to", TYPES)
@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_tensors_and_description_are_those_of_the_package(tmp_path: Path, name: str, to: str) -> None:
    """Names, types, shapes and every byte; config.json says what the package's own says, key by key."""
    model = saved(tmp_path, name)
    small(model, tmp_path / "ours", to)
    by_the_package(wide_model(name), tmp_path / "theirs", to)

    assert tensors(tmp_path / "ours" / "model.safetensors") == tensors(tmp_path / "theirs" / "model.safetensors")
    assert stated(tmp_path / "ours") == stated(tmp_path / "theirs")


@pytest.mark.parametrize(
    ("name", "to", "dtype"),
    [
        ("llama", "w4a16", torch.bfloat16),
        ("llama", "w8a16", torch.bfloat16),
        ("llama", "w8a16", torch.float16),
        ("qwen2", "w4a16-g32", torch.bfloat16),
        ("qwen2", "w4a16", torch.float32),
    ],
)
def test_transformers_loads_the_folder(tmp_path: Path, name: str, to: str, dtype: torch.dtype) -> None:
    """Its logits are those of a model with our decoded weights, and near those of the original."""
    model = saved(tmp_path, name, dtype)
    small(model, tmp_path / "small", to)
    original = loaded(model)
    expected = loaded(model)
    decoded = dict(load_weights(ModelFolder(tmp_path / "small").index, torch.float32))
    state = expected.state_dict()
    for key, tensor in decoded.items():
        state[key if key.startswith("lm_head") else f"model.{key}"].copy_(tensor)

    found = logits(loaded(tmp_path / "small"))

    assert torch.allclose(found, logits(expected), rtol=0, atol=1e-5)
    error = (found - logits(original)).norm() / logits(original).norm()
    assert error < (0.02 if to == "w8a16" else 0.25)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("to", ["w4a16-g32", "w8a16"])
def test_our_engine_loads_what_the_package_writes(tmp_path: Path, to: str, dtype: torch.dtype) -> None:
    """Scales may be of the model's own type; the weights are those that transformers computes with."""
    by_the_package(wide_model("qwen2", dtype), tmp_path, to)
    theirs = loaded(tmp_path)
    logits(theirs)  # unpacks

    found = dict(load_weights(ModelFolder(tmp_path).index, torch.float32))
    state = theirs.state_dict()
    assert all(torch.equal(state[f"model.{name}"], tensor) for name, tensor in found.items())


def test_shards_stay_shards(tmp_path: Path) -> None:
    """Each tensor stays in its file, and the index names every new one and their size in all."""
    model = saved(tmp_path, "qwen2", max_shard_size="200KB")
    small(model, tmp_path / "small", "w4a16")
    before = json.loads((model / "model.safetensors.index.json").read_text())["weight_map"]
    index = json.loads((tmp_path / "small" / "model.safetensors.index.json").read_text())
    found = {name: file for file in set(before.values()) for name in tensors(tmp_path / "small" / file)}

    assert len(set(before.values())) > 2
    assert index["weight_map"] == found
    module = "model.layers.1.mlp.up_proj"
    assert found[f"{module}.weight_packed"] == found[f"{module}.weight_shape"] == before[f"{module}.weight"]
    sizes = [len(entry[2]) for file in set(found.values()) for entry in tensors(tmp_path / "small" / file).values()]
    assert index["metadata"] == {"total_size": sum(sizes)}
    assert logits(loaded(tmp_path / "small")).shape == (1, 40, 400)


def test_small_files_go_along_and_others_do_not(tmp_path: Path) -> None:
    """Tokenizer, settings and licence are copied; pickles, code and folders are left behind."""
    model = saved(tmp_path)
    for name in ("LICENSE", "merges.txt", "chat_template.jinja", "pytorch_model.bin", "modeling.py", "README.md"):
        (model / name).write_text(name)
    (model / "onnx.json").mkdir()
    small(model, tmp_path / "small", "w8a16")

    found = {path.name for path in (tmp_path / "small").iterdir()}
    assert found >= {"LICENSE", "merges.txt", "chat_template.jinja", "tokenizer.json", "generation_config.json"}
    assert not found & {"pytorch_model.bin", "modeling.py", "README.md", "onnx.json"}
    assert (tmp_path / "small" / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()


def test_what_is_kept_keeps_its_mates(tmp_path: Path) -> None:
    """A kept module is stored as asked and ignored, and so are those that engines join it with."""
    model = saved(tmp_path)
    keep = (("model.layers.0.self_attn.k_proj", "bf16"), ("*.1.mlp.down_proj.weight", "F32"), ("lm_head", "f16"))
    layout = small(model, tmp_path / "small", "w4a16", keep=keep)

    attention = [f"model.layers.0.self_attn.{name}_proj" for name in "kqv"]
    assert stated(tmp_path / "small")["quantization_config"]["ignore"] == [
        "lm_head",
        *attention,
        "model.layers.1.mlp.down_proj",
    ]
    found = tensors(tmp_path / "small" / "model.safetensors")
    before = tensors(model / "model.safetensors")
    assert all(found[f"{name}.weight"] == before[f"{name}.weight"] for name in attention)
    assert found["model.layers.1.mlp.down_proj.weight"][0] == "F32"
    assert found["lm_head.weight"][0] == "F16"
    assert layout.notes == (
        f"2 modules, such as {attention[1]}, are kept, as engines join such a module with one that is: "
        f"{attention[1]} with {attention[0]}",
    )
    expected = logits(loaded(model))
    assert (logits(loaded(tmp_path / "small")) - expected).norm() / expected.norm() < 0.25


def test_rows_that_fit_no_group_are_kept_with_a_note(tmp_path: Path) -> None:
    """The module is ignored, and the user is told of it."""
    model = saved(tmp_path, sizes={"intermediate_size": 200})
    layout = small(model, tmp_path / "small", "w4a16")

    ignored = stated(tmp_path / "small")["quantization_config"]["ignore"]
    assert ignored == ["lm_head", "model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"]
    assert layout.notes == (
        "2 modules, such as model.layers.0.mlp.down_proj, are kept: rows of 200 weights are no multiple of 128",
    )
    assert logits(loaded(tmp_path / "small")).isfinite().all()


def test_scales_of_least_error_are_of_the_same_form(tmp_path: Path) -> None:
    """Other numbers under the same names; the folder loads as the other does."""
    model = saved(tmp_path)
    small(model, tmp_path / "plain", "w4a16")
    small(model, tmp_path / "least", "w4a16", scale="mse")
    plain, least = (tensors(tmp_path / name / "model.safetensors") for name in ("plain", "least"))

    assert {name: entry[:2] for name, entry in plain.items()} == {name: entry[:2] for name, entry in least.items()}
    assert plain != least
    assert stated(tmp_path / "plain") == stated(tmp_path / "least")


def test_the_library_of_the_format_reads_our_files(tmp_path: Path) -> None:
    """Every tensor begins at a multiple of its width, so the file can be mapped."""
    model = saved(tmp_path)
    small(model, tmp_path / "small", "w4a16-g32")

    with safe_open(tmp_path / "small" / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        shape = file.get_tensor("model.layers.0.mlp.up_proj.weight_shape")
    assert shape.tolist() == [256, 128]


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "GPT-2": ("gpt2", {}, "class Conv1D, which compressed-tensors doesn't quantize; write a GGUF file"),
    "a type of GGUF": ("llama", {"to": "q4_0"}, "isn't of compressed-tensors; known: w4a16, w4a16-g32, w8a16"),
    "a pattern for nothing": ("llama", {"keep": (("*.experts.*", "bf16"),)}, "no tensor has such a name; one is"),
    "a kept type that is none": ("llama", {"keep": (("lm_head", "q8_0"),)}, "a kept tensor is one of F32, F16, BF16"),
    "nothing left": ("llama", {"keep": (("*_proj", "bf16"),)}, "would quantize nothing"),
    "scales for 8 bits": ("llama", {"to": "w8a16", "scale": "mse"}, "W8A16 has no mse scales"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(tmp_path: Path, case: str) -> None:
    """With the reason and the way out, before anything is written."""
    from tokenmill.quant.compressed.target import plan
    from tokenmill.quant.layout import Options
    from tokenmill.quant.source import read_weights

    name, how, words = REFUSED[case]
    wide_model(name).save_pretrained(tmp_path)

    with pytest.raises(TokenmillError) as refusal:
        plan(read_weights(tmp_path), tmp_path, Options(**({"to": "w4a16"} | how)))
    assert words in str(refusal.value)


def test_a_folder_that_is_packed_already_is_refused(tmp_path: Path) -> None:
    """Nothing is quantized twice in silence."""
    model = saved(tmp_path)
    small(model, tmp_path / "small", "w4a16")

    with pytest.raises(TokenmillError, match="weights quantized with 'compressed-tensors' aren't supported"):
        small(tmp_path / "small", tmp_path / "smaller", "w4a16")


def group(**changes: Any) -> dict[str, Any]:
    """A `quantization_config` like ours but for some keys of its weights."""
    weights = {
        "num_bits": 4,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": 128,
        "dynamic": False,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights | changes}},
    }


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "another method": (group() | {"quant_method": "gptq"}, "quantized with 'gptq' aren't supported"),
    "another form": (group() | {"format": "float-quantized"}, "format 'float-quantized' isn't supported; only"),
    "quantized keys": (group() | {"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme isn't supported"),
    "another group": (
        group(group_size=64),
        "weights of 4 bits with a scale for each 64 aren't supported; known: W4A16",
    ),
    "not symmetric": (group(symmetric=False), "symmetric False isn't supported"),
    "columns in another order": (group(actorder="group"), "only where columns keep their order"),
    "no groups": (group() | {"config_groups": {}}, "config_groups is missing"),
    "a group is a number": (group() | {"config_groups": {"a": 1}}, "config_groups.a 1 must be an object"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_folders_of_other_forms_are_refused_by_our_engine(tmp_path: Path, case: str) -> None:
    """What the description says that would change the arithmetic is named."""
    how, words = OTHERS[case]
    wide_model("llama").save_pretrained(tmp_path)
    edit_json(tmp_path / "config.json", quantization_config=how)

    with pytest.raises(TokenmillError) as refusal:
        _ = ModelFolder(tmp_path).config
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("part", "dtype", "shape", "words"),
    [
        ("weight_shape", "I64", (2,), r"up_proj.weight_shape' says \(0, 0\); config.json makes it \[256, 128\]"),
        (
            "weight_scale",
            "BF16",
            (128, 1),
            r"is BF16 of shape \[128, 1\]; W4A16 makes it F32 or F16 or BF16 of shape \[256, 1\]",
        ),
        ("weight_packed", "F32", (256, 16), r"is F32 of shape \[256, 16\]; W4A16 makes it I32 of shape \[256, 16\]"),
        ("weight_scale", None, (), r"'layers.0.mlp.up_proj.weight_scale' is missing"),
    ],
)
def test_packed_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, part: str, dtype: str | None, shape: tuple[int, ...], words: str
) -> None:
    """By tensor, before anything is loaded."""
    from safetensors.torch import load_file, save_file

    small(saved(tmp_path), tmp_path / "small", "w4a16")
    path = tmp_path / "small" / "model.safetensors"
    held = load_file(path)
    kinds = {"I64": torch.int64, "BF16": torch.bfloat16, "F32": torch.float32}
    name = f"model.layers.0.mlp.up_proj.{part}"
    held.pop(name)
    if dtype is not None:
        held[name] = torch.zeros(shape, dtype=kinds[dtype])
    save_file(held, path, metadata={"format": "pt"})

    with pytest.raises(TokenmillError, match=words):
        _ = ModelFolder(tmp_path / "small").index


def test_options_are_checked_before_the_model_is_read(tmp_path: Path) -> None:
    """A folder can't be made of a GGUF file."""
    from quant.compressing import read_model

    with pytest.raises(UsageError, match="neither a model folder nor a GGUF file"):
        read_model(tmp_path / "nothing")

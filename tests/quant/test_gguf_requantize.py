"""A GGUF file becomes another: what it says is copied byte by byte, its matrices get other types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from quant.gguf_files import Read, make
from tokenmill.model.files import BadModel
from tokenmill.quant.gguf.reader import read_gguf

RANDOM = np.random.default_rng(1)


def experts(writer: gguf.GGUFWriter) -> None:
    """A model with four experts, of an architecture that no folder of ours has."""
    writer.add_block_count(8)
    writer.add_expert_count(4)
    writer.add_token_list(["a", "b"])
    writer.add_file_type(1)
    writer.add_uint64("far.away", 1 << 60)
    for layer in range(8):
        weights = RANDOM.normal(size=(4, 3, 256)).astype(np.float16)
        writer.add_tensor(f"blk.{layer}.ffn_down_exps.weight", weights)
        writer.add_tensor(f"blk.{layer}.ffn_gate_inp.weight", RANDOM.normal(size=(4, 64)).astype(np.float32))
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", RANDOM.normal(size=64).astype(np.float32))
    writer.add_tensor("ids", np.arange(6, dtype=np.int32).reshape(2, 3))
    writer.add_tensor("output.weight", RANDOM.normal(size=(5, 256)).astype(np.float32))


def written(path: Path, fill: Callable[[gguf.GGUFWriter], Any] = experts, alignment: int | None = None) -> Path:
    writer = gguf.GGUFWriter(path, "qwen9moe")
    if alignment:
        writer.add_custom_alignment(alignment)
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_everything_said_is_copied(tmp_path: Path) -> None:
    """All keys stay, but for the type of the file and the version of its types, which are the new ones."""
    source = written(tmp_path / "a.gguf")
    make(source, "q4_k_m", tmp_path / "b.gguf")
    before, after = Read(source).keys, Read(tmp_path / "b.gguf").keys
    assert after.pop("general.file_type") == (["UINT32"], 15)
    assert after.pop("general.quantization_version") == (["UINT32"], 2)
    del before["general.file_type"]
    assert after == before


def test_only_matrices_change(tmp_path: Path) -> None:
    """Experts get types by their layer; norms, routers and whole numbers keep theirs, and their bytes."""
    source = written(tmp_path / "a.gguf")
    make(source, "q4_k_m", tmp_path / "b.gguf")
    before, after = Read(source), Read(tmp_path / "b.gguf")
    down = [after.types[f"blk.{layer}.ffn_down_exps.weight"] for layer in range(8)]
    assert down == ["Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q6_K"]
    assert after.types["output.weight"] == "Q6_K"
    for name in ("blk.3.ffn_gate_inp.weight", "blk.3.attn_norm.weight", "ids"):
        assert after.types[name] == before.types[name]
        assert np.array_equal(after.data[name], before.data[name])
    name = "blk.3.ffn_down_exps.weight"
    assert np.allclose(after.floats(name), before.floats(name), atol=0.1)


def test_a_files_own_alignment_stays(tmp_path: Path) -> None:
    """A file that aligns by another number goes on doing so."""
    source = written(tmp_path / "a.gguf", alignment=128)
    make(source, "q8_0", tmp_path / "b.gguf")
    found = read_gguf(tmp_path / "b.gguf")
    assert found.alignment == 128
    assert all(tensor.offset % 128 == 0 for tensor in found.weights.tensors)
    assert Read(tmp_path / "b.gguf").types["output.weight"] == "Q8_0"


def test_patterns_keep_tensors(tmp_path: Path) -> None:
    """A pattern gives a type to what it matches."""
    source = written(tmp_path / "a.gguf")
    make(source, "q8_0", tmp_path / "b.gguf", ("output*", "F16"), ("blk.[01].*", "Q5_0"))
    types = Read(tmp_path / "b.gguf").types
    assert types["output.weight"] == "F16"
    assert [types[f"blk.{layer}.ffn_down_exps.weight"] for layer in range(3)] == ["Q5_0", "Q5_0", "Q8_0"]


def test_a_quantized_file_is_refused(tmp_path: Path) -> None:
    """What is quantized already isn't quantized again: refused with the tensor, its type and what to take instead."""
    make(written(tmp_path / "a.gguf"), "q8_0", tmp_path / "b.gguf")
    with pytest.raises(BadModel, match=r"'blk.0.ffn_down_exps.weight' is already quantized, to Q8_0.*original weights"):
        make(tmp_path / "b.gguf", "q4_0", tmp_path / "c.gguf")


def test_a_part_of_a_model_is_refused(tmp_path: Path) -> None:
    """One of several files of a model is refused with what joins them."""
    source = written(tmp_path / "a.gguf", lambda writer: writer.add_uint16("split.count", 3))
    with pytest.raises(BadModel, match="one of 3 parts"):
        make(source, "q8_0", tmp_path / "b.gguf")


def test_a_single_part_becomes_whole(tmp_path: Path) -> None:
    """The keys of parts are left out where there is but one."""
    source = written(tmp_path / "a.gguf", lambda writer: (experts(writer), writer.add_uint16("split.count", 1)))
    make(source, "q8_0", tmp_path / "b.gguf")
    assert "split.count" not in Read(tmp_path / "b.gguf").keys

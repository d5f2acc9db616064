"""A whole model folder of random weights, with the tokenizer of the tiny model of the commands' tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cli.tiny_model import CONFIG, write_tiny_model
from quant.raw import write_model
from tokenmill.model.config import read_config
from tokenmill.model.shards import SHARDED, SINGLE
from tokenmill.model.tensors import expected_tensors


def write_llama(folder: Path, *, hidden: int = 64, inner: int = 128, layers: int = 2, shards: int = 1) -> Path:
    """Weights of BF16 in so many files; the larger `hidden`, `inner` and `layers`, the larger the model."""
    write_tiny_model(folder)
    sizes = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(CONFIG | sizes))
    source = np.random.default_rng(7)
    tensors: dict[str, NDArray[np.generic]] = {}
    for name, shape in expected_tensors(read_config(folder)).items():
        floats = source.standard_normal(shape, dtype=np.float32) * np.float32(0.05)
        tensors[f"model.{name}"] = (floats.view(np.uint32) >> 16).astype(np.uint16)
    if shards == 1:
        write_model(folder / SINGLE, tensors)
        return folder
    (folder / SINGLE).unlink()
    places = {name: f"model-{number % shards + 1:05}-of-{shards:05}.safetensors" for number, name in enumerate(tensors)}
    for file in sorted(set(places.values())):
        write_model(folder / file, {name: array for name, array in tensors.items() if places[name] == file})
    total = sum(array.nbytes for array in tensors.values())
    (folder / SHARDED).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}))
    return folder

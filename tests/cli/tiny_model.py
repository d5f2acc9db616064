"""A model folder written byte by byte: a byte-level tokenizer and weights of zeros, made without torch."""

from __future__ import annotations

import json
import math
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tokenmill.model.config import read_config
from tokenmill.model.shards import SINGLE
from tokenmill.model.tensors import expected_tensors

CONTEXT = 64
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 256,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "dtype": "float32",
}


def write_tiny_model(folder: Path) -> Path:
    """A whole folder that passes every check."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    write_weights(folder / SINGLE, {name: list(shape) for name, shape in expected_tensors(read_config(folder)).items()})
    return folder


def write_weights(path: Path, shapes: dict[str, list[int]]) -> None:
    """A safetensors file of zeros."""
    entries, at = {}, 0
    for name, shape in shapes.items():
        end = at + 4 * math.prod(shape)
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(at))

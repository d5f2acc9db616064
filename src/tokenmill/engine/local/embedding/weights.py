"""Which tensors an encoder has, and whether a folder has exactly these.

Files of a whole BERT carry heads for its training, and a pooler for sentence pairs; no vector of a text depends on
them, so they are left unread. Names have the prefix `bert.` in some files.
"""

from __future__ import annotations

import re
from pathlib import Path

from tokenmill.engine.local.embedding.config import EncoderConfig
from tokenmill.engine.local.weights import FLOATS, WeightIndex
from tokenmill.errors import InputFaults
from tokenmill.model.files import BadModel
from tokenmill.model.safetensors import Stored, read_header
from tokenmill.model.shards import weight_files

_PREFIX = "bert."
_UNREAD = re.compile(r"embeddings\.position_ids|embeddings\.token_type_ids|pooler\.dense\.(weight|bias)|cls\..*")


def expected_tensors(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """Plain name and shape of every tensor; linears are stored as [outputs, inputs]."""
    hidden, inner = config.hidden, config.intermediate
    expected: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab, hidden),
        "embeddings.position_embeddings.weight": (config.positions, hidden),
        "embeddings.token_type_embeddings.weight": (config.types, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
    }
    linears = {
        "attention.self.query": (hidden, hidden),
        "attention.self.key": (hidden, hidden),
        "attention.self.value": (hidden, hidden),
        "attention.output.dense": (hidden, hidden),
        "intermediate.dense": (inner, hidden),
        "output.dense": (hidden, inner),
    }
    for layer in range(config.layers):
        prefix = f"encoder.layer.{layer}."
        for name, shape in linears.items():
            expected[f"{prefix}{name}.weight"] = shape
            expected[f"{prefix}{name}.bias"] = shape[:1]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            expected[f"{prefix}{name}.weight"] = expected[f"{prefix}{name}.bias"] = (hidden,)
    return expected


def check_encoder_weights(folder: Path, config: EncoderConfig) -> WeightIndex:
    """The weights in `folder`, if they are exactly those of `config`; all differing tensors are reported together."""
    headers = [(path, read_header(path)) for path in weight_files(folder)]
    found: dict[str, tuple[Path, str, Stored]] = {}
    for path, header in headers:
        for name, stored in header.tensors.items():
            plain = name.removeprefix(_PREFIX)
            if plain in found:
                raise BadModel(f"{path}: tensor {name!r} is in {found[plain][0].name} too; download the model again")
            found[plain] = (path, name, stored)
    expected = expected_tensors(config)
    if faults := _differences(expected, found):
        raise InputFaults(f"weights in {folder} don't fit config.json, download both again", faults)
    return WeightIndex(places={name: found[name] for name in expected}, headers=tuple(headers))


def _differences(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[Path, str, Stored]]) -> list[str]:
    faults = [
        f"tensor {name!r} of shape {list(shape)} is missing" for name, shape in expected.items() if name not in found
    ]
    for name, (path, stored_name, stored) in found.items():
        place = f"{path.name}: tensor {stored_name!r}"
        if name not in expected:
            if not _UNREAD.fullmatch(name):
                faults.append(f"{place} has no place in the encoder that config.json describes")
        elif stored.shape != expected[name]:
            faults.append(f"{place} has shape {list(stored.shape)}; config.json makes it {list(expected[name])}")
        elif stored.dtype not in FLOATS:
            faults.append(f"{place} has type {stored.dtype}; only {', '.join(FLOATS)} can be loaded")
    return faults

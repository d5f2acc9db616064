"""The weights of a model folder or of one safetensors file, as tensors at offsets of files.

Only headers are read here. Names are checked, because they end up in the files that are written.
"""

from __future__ import annotations

from pathlib import Path

from tokenmill.model.files import BadModel
from tokenmill.model.safetensors import Stored, read_header
from tokenmill.model.shards import weight_files
from tokenmill.quant.tensor import Tensor, Weights

NAME_LIMIT = 1024


def read_weights(model: Path) -> Weights:
    """Every tensor of the safetensors files in the folder `model`, or of the file `model`; raises `BadModel`."""
    files = weight_files(model) if model.is_dir() else [model]
    tensors: list[Tensor] = []
    for number, path in enumerate(files):
        header = read_header(path)
        data = 8 + len(header.raw)
        entries = sorted(header.tensors.items(), key=lambda entry: (entry[1].begin, entry[1].end))
        tensors += [_tensor(path, name, stored, number, data) for name, stored in entries]
    if not tensors:
        raise BadModel(f"{model} holds no tensors; download the model again")
    return Weights(files=tuple(files), tensors=tuple(tensors))


def _tensor(path: Path, name: str, stored: Stored, number: int, data: int) -> Tensor:
    if not name or len(name) > NAME_LIMIT or not name.isprintable() or ".." in name or "/" in name or "\\" in name:
        raise BadModel(f"{path}: tensor {name[:80]!r} has a name that no model has; take the file from another source")
    size = stored.end - stored.begin
    if not size:
        raise BadModel(f"{path}: tensor {name!r} of shape {list(stored.shape)} is empty; download the model again")
    return Tensor(
        name=name, element=stored.dtype, shape=stored.shape, file=number, offset=data + stored.begin, size=size
    )

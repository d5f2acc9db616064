"""The safetensors files of a model folder: one, or the shards that an index names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tokenmill.model.files import BadModel, find_file, read_object
from tokenmill.model.safetensors import read_header

SINGLE = "model.safetensors"
SHARDED = "model.safetensors.index.json"
SHARD_LIMIT = 4096
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of a model folder, in a fixed order; what an index says of them is checked."""
    single = find_file(folder, SINGLE)
    if single is not None:
        return [single]
    index = find_file(folder, SHARDED)
    if index is not None:
        return _shards(folder, index)
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        raise BadModel(f"{folder} has {others[0]} but neither {SINGLE} nor {SHARDED}; download the whole model")
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise BadModel(
            f"{folder} has its weights only in {pickles[0]}, a pickle that could run any code and is never opened; "
            "take a version with safetensors, or convert it with save_pretrained of transformers"
        )
    raise BadModel(f"{folder} has no weights: neither {SINGLE} nor {SHARDED}; download the whole model")


def _shards(folder: Path, index: Path) -> list[Path]:
    """The files an index names, each once, in order; each must hold just the tensors the index says."""
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise BadModel(f"{index}: weight_map must name a file for each tensor; download it again")
    names = sorted(set(weight_map.values()))
    if not 0 < len(names) <= SHARD_LIMIT:
        raise BadModel(f"{index}: weight_map names {len(names)} files; expected 1 to {SHARD_LIMIT}")
    files: dict[str, Path] = {}
    for name in names:
        path = find_file(folder, name)
        if path is None or not name.endswith(".safetensors"):
            why = "isn't there" if path is None else "isn't a safetensors file"
            raise BadModel(f"{folder}: {name!r}, named by {SHARDED}, {why}; download the whole model")
        files[name] = path
    _check_map(index, weight_map, files)
    return list(files.values())


def _check_map(index: Path, weight_map: Mapping[str, str], files: Mapping[str, Path]) -> None:
    held = {(tensor, name) for name, path in files.items() for tensor in read_header(path).tensors}
    stated = set(weight_map.items())
    for tensor, name in sorted(held ^ stated)[:1]:
        how = "is in that file but not in weight_map" if (tensor, name) in held else "isn't in that file"
        raise BadModel(f"{index}: tensor {tensor!r} of {name!r} {how}; download the whole model")

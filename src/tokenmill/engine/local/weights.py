"""From safetensors files to tensors: whether a folder holds what its model must have, and reading it.

Nothing is handed to the safetensors library before every header has been checked, and
files that need pickle are never opened. Torch is imported only when tensors are read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from tokenmill.engine.local.encoded import Encoded, load_encoded
from tokenmill.errors import InputFaults
from tokenmill.model.config import ModelConfig
from tokenmill.model.files import BadModel
from tokenmill.model.safetensors import Header, Stored, read_header
from tokenmill.model.shards import weight_files
from tokenmill.model.tensors import expected_tensors

if TYPE_CHECKING:
    import torch

FLOATS = ("F32", "F16", "BF16", "F64")

#: The file of a tensor, its name there, how it is stored, and where in the file.
Found: TypeAlias = tuple[Path, str, Stored, int]

_PREFIXES = ("transformer.", "model.")
#: Buffers and copies that old files carry; the model computes them or takes the original.
_IGNORED = re.compile(r"h\.\d+\.attn\.(masked_)?bias|layers\.\d+\.self_attn\.rotary_emb\.inv_freq|rotary_emb\.inv_freq")


class WeightIndex(Struct, frozen=True, kw_only=True):
    """Checked weight files. `places`: by plain name, the file of each tensor, its name there and how it is stored.

    `encoded`: by plain name, the tensors that are decoded while they are loaded. `headers` holds every weight file with
    its header, in a fixed order.
    """

    places: Mapping[str, tuple[Path, str, Stored]]
    headers: tuple[tuple[Path, Header], ...]
    encoded: Mapping[str, Encoded] = {}

    @property
    def parameters(self) -> int:
        """Numbers in all tensors that are loaded."""
        plain = sum(math.prod(stored.shape) for _, _, stored in self.places.values())
        return plain + sum(tensor.count for tensor in self.encoded.values())


def check_weights(folder: Path, config: ModelConfig, packed: str | None = None) -> WeightIndex:
    """The weights in `folder`, if they are exactly those of `config`; all differing tensors are reported together.

    `packed`: the encoding of the matrices that compressed-tensors packed, None if it had no part in the model.
    """
    headers = [(path, read_header(path)) for path in weight_files(folder)]
    found = _found(headers)
    expected = expected_tensors(config)
    encoded: dict[str, Encoded] = {}
    faults: list[str] = []
    if packed is not None:
        from tokenmill.engine.local.packed import take_packed

        encoded, taken, faults = take_packed(found, expected, packed)
        found = {name: place for name, place in found.items() if name not in taken}
        expected = {name: shape for name, shape in expected.items() if name in found or name not in encoded}
    if faults := faults + _differences(expected, found, config.tied):
        raise InputFaults(f"weights in {folder} don't fit config.json, download both again", faults)
    places = {name: found[name][:3] for name in expected}
    return WeightIndex(places=places, headers=tuple(headers), encoded=encoded)


def _found(headers: Sequence[tuple[Path, Header]]) -> dict[str, Found]:
    """Every tensor of the files by its plain name, which no two may share."""
    found: dict[str, Found] = {}
    for path, header in headers:
        for name, stored in header.tensors.items():
            plain = plain_name(name)
            if plain in found:
                first, other, _, _ = found[plain]
                raise BadModel(
                    f"{path}: tensor {name!r} is in {first.name} too, as {other!r}; download the model again"
                )
            found[plain] = (path, name, stored, 8 + len(header.raw) + stored.begin)
    return found


def plain_name(name: str) -> str:
    """The name of a tensor without the prefix of the base model."""
    return next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)


def _differences(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Found], tied: bool) -> list[str]:
    faults = [
        f"tensor {name!r} of shape {list(shape)} is missing" for name, shape in expected.items() if name not in found
    ]
    for name, (path, stored_name, stored, _) in found.items():
        place = f"{path.name}: tensor {stored_name!r}"
        if name not in expected:
            if not _IGNORED.fullmatch(name) and not (tied and name == "lm_head.weight"):
                faults.append(f"{place} has no place in the model that config.json describes")
        elif stored.shape != expected[name]:
            faults.append(f"{place} has shape {list(stored.shape)}; config.json makes it {list(expected[name])}")
        elif stored.dtype not in FLOATS:
            faults.append(f"{place} has type {stored.dtype}; only {', '.join(FLOATS)} can be loaded")
    return faults


def load_weights(
    index: WeightIndex, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor once, by plain name, as a copy of its own in `dtype` on `device`; file by file, one at a time."""
    yield from _load_plain(index, dtype, device)
    yield from load_encoded(index.encoded, dtype, device)


def _load_plain(
    index: WeightIndex, dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors import SafetensorError, safe_open

    by_file: dict[Path, list[tuple[str, str, Stored]]] = {path: [] for path, _ in index.headers}
    for name, (path, stored_name, stored) in index.places.items():
        by_file[path].append((name, stored_name, stored))
    for path, entries in by_file.items():
        if not entries:
            continue
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                for name, stored_name, stored in sorted(entries, key=lambda entry: entry[2].begin):
                    tensor = file.get_tensor(stored_name)
                    if tuple(tensor.shape) != stored.shape:
                        raise BadModel(f"{path} changed while it was read; start again once the download is over")
                    yield name, tensor.to(device=device, dtype=dtype, copy=True)
        except (SafetensorError, OSError) as error:
            raise BadModel(f"{path}: can't be read ({error}); download it again") from error

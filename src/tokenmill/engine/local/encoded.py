"""Tensors that are stored quantized: where their parts lie, and decoding them while they are loaded.

They become ordinary tensors of the run's precision, a few thousand rows at a time, so beside the model itself only some
megabytes are needed. What an engine computes with them is therefore what any other engine does that dequantizes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from tokenmill.model.files import BadModel

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from tokenmill.quant.encoding import Bytes
    from tokenmill.quant.layout import Arrangement

#: Bytes of decoded weights that are in memory beside the tensors; as quick as any larger size.
CHUNK = 1 << 20


class Decoder(Protocol):
    """What loading needs of an encoding."""

    def row_sizes(self, columns: int) -> tuple[int, ...]: ...

    def decode(self, outputs: tuple[Bytes, ...], rows: int, columns: int) -> NDArray[np.float32]: ...


class Part(Struct, frozen=True):
    """Where one output of an encoding begins: its file, and the offset in it."""

    path: Path
    offset: int


class Encoded(Struct, frozen=True, kw_only=True):
    """A tensor to decode.

    `rows` and `columns` are those that are stored, after `arrangement` had its way; `shape` is that of the model. The
    parts are in the order of the encoding's outputs.
    """

    encoding: Decoder
    arrangement: Arrangement
    parts: tuple[Part, ...]
    rows: int
    columns: int
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def load_encoded(
    tensors: Mapping[str, Encoded], dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor once, in the order of the files."""
    ordered = sorted(tensors.items(), key=lambda item: (str(item[1].parts[0].path), item[1].parts[0].offset))
    with ExitStack() as opened:
        files: dict[Path, int] = {}
        for _, tensor in ordered:
            for part in tensor.parts:
                if part.path not in files:
                    files[part.path] = _open(part.path, opened)
        for name, tensor in ordered:
            yield name, _decode(tensor, files, dtype, device)


def _open(path: Path, opened: ExitStack) -> int:
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise BadModel(f"{path}: can't be read ({error.strerror})") from error
    opened.callback(os.close, file)
    return file


def _decode(tensor: Encoded, files: Mapping[Path, int], dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    import torch

    found = torch.empty(tensor.shape, dtype=dtype, device=device)
    at_once = max(1, CHUNK // (4 * tensor.columns))
    for begin in range(0, tensor.rows, at_once):
        end = min(tensor.rows, begin + at_once)
        outputs = tuple(
            _read(part.path, files[part.path], part.offset + begin * size, (end - begin) * size)
            for part, size in zip(tensor.parts, tensor.encoding.row_sizes(tensor.columns), strict=True)
        )
        decoded = torch.from_numpy(tensor.encoding.decode(outputs, end - begin, tensor.columns))
        _put(found, tensor, begin, end, decoded.to(device=device, dtype=dtype))
    return found


def _read(path: Path, file: int, offset: int, size: int) -> Bytes:
    import numpy as np

    content = bytearray(size)
    view, done = memoryview(content), 0
    while done < size:
        try:
            more = os.preadv(file, [view[done:]], offset + done)
        except OSError as error:
            raise BadModel(f"{path}: can't be read ({error.strerror})") from error
        if not more:
            raise BadModel(f"{path} shrank while it was read; start again once the download is over")
        done += more
    return np.frombuffer(content, np.uint8)


def _put(found: torch.Tensor, tensor: Encoded, begin: int, end: int, rows: torch.Tensor) -> None:
    """Stored rows `begin` to `end` at their place in the model's tensor."""
    match tensor.arrangement.kind:
        case "transposed":
            found[:, begin:end] = rows.T
        case "heads":
            found.view(tensor.rows, -1).index_copy_(0, _own_rows(tensor, begin, end, found.device), rows)
        case _:
            found.view(tensor.rows, -1)[begin:end] = rows


def _own_rows(tensor: Encoded, begin: int, end: int, device: torch.device) -> torch.Tensor:
    """The model's rows that are stored as `begin` to `end`: pairs there are two halves of a head here."""
    import torch

    stored = torch.arange(begin, end, device=device)
    size = tensor.rows // tensor.arrangement.heads
    head, place = stored // size, stored % size
    return head * size + place % 2 * (size // 2) + place // 2

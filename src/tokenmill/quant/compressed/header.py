"""The beginning of a safetensors file whose tensors are known but not yet made."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

from msgspec import Struct

from tokenmill.model.safetensors import WIDTHS


class Entry(Struct, frozen=True, kw_only=True):
    """A tensor to come."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape) * WIDTHS[self.dtype]


def plan_file(entries: Iterable[Entry]) -> tuple[bytes, dict[str, int], int]:
    """The header, where in the file each tensor begins, and the size of the whole file.

    Wide elements come first, then names count, as the library of the format has it: so every tensor is aligned.
    """
    ordered = sorted(entries, key=lambda entry: (-WIDTHS[entry.dtype], entry.name))
    stated: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begins: dict[str, int] = {}
    end = 0
    for entry in ordered:
        begins[entry.name] = end
        stated[entry.name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": (end, end + entry.size)}
        end += entry.size
    raw = json.dumps(stated, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    header = len(raw).to_bytes(8, "little") + raw
    return header, {name: len(header) + begin for name, begin in begins.items()}, len(header) + end

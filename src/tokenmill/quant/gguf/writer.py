"""The header of a GGUF file to come: its bytes, where each tensor will stand, and how large the file becomes."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence

from msgspec import Struct

from tokenmill.quant.gguf.stored import STORED, row_size
from tokenmill.quant.gguf.value import Value

VERSION = 3
#: What readers take for granted unless `general.alignment` says otherwise.
ALIGNMENT = 32


class Entry(Struct, frozen=True, kw_only=True):
    """One tensor of the file: its name, type and shape, the slowest dimension first."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape[:-1]) * row_size(self.kind, self.shape[-1] if self.shape else 1)


class Plan(Struct, frozen=True, kw_only=True):
    """A file: the bytes before the first tensor, each tensor's offset in the file, and the size of the whole."""

    header: bytes
    offsets: tuple[int, ...]
    size: int


def plan_file(metadata: Mapping[str, Value], entries: Sequence[Entry], alignment: int = ALIGNMENT) -> Plan:
    """The file with this metadata and these tensors, in their order, each padded to the alignment."""
    parts = [b"GGUF", struct.pack("<IQQ", VERSION, len(entries), len(metadata))]
    for key, value in metadata.items():
        parts += [_text(key), struct.pack("<I", value.kind), bytes(value.payload)]
    offset = 0
    offsets = []
    for entry in entries:
        sizes = tuple(reversed(entry.shape))
        number = STORED[entry.kind].number
        parts += [_text(entry.name), struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, number, offset)]
        offsets.append(offset)
        offset += _padded(entry.size, alignment)
    header = b"".join(parts)
    begin = _padded(len(header), alignment)
    return Plan(header=header.ljust(begin, b"\0"), offsets=tuple(begin + one for one in offsets), size=begin + offset)


def _text(content: str) -> bytes:
    encoded = content.encode()
    return len(encoded).to_bytes(8, "little") + encoded


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment

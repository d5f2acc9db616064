"""Values of GGUF's metadata: a type and the bytes as they stand in a file, decoded only when asked for.

So a vocabulary of hundreds of thousands of pieces costs nothing until somebody wants it, and a copied key is copied
byte by byte, whatever it means.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from msgspec import Struct

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, TEXT, ARRAY, UINT64, INT64, FLOAT64 = range(13)
TYPE_NAMES = (
    "uint8 int8 uint16 int16 uint32 int32 float32 bool string array uint64 int64 float64".split()  # noqa: SIM905
)
#: What each type of fixed size is to NumPy; flags are bytes.
FIXED = {
    UINT8: "<u1",
    INT8: "<i1",
    UINT16: "<u2",
    INT16: "<i2",
    UINT32: "<u4",
    INT32: "<i4",
    FLOAT32: "<f4",
    BOOL: "<u1",
    UINT64: "<u8",
    INT64: "<i8",
    FLOAT64: "<f8",
}
SIZES = {kind: int(code[2]) for kind, code in FIXED.items()}

Decoded: TypeAlias = bool | int | float | str | list["Decoded"]


class Value(Struct, frozen=True):
    """One value: its type, and its bytes in a file. Those of an array begin with the type and count of its items."""

    kind: int
    payload: bytes | memoryview

    @property
    def item(self) -> int | None:
        """The type of an array's items; None for anything but an array."""
        return int.from_bytes(self.payload[:4], "little") if self.kind == ARRAY else None

    @property
    def length(self) -> int:
        """Items of an array; 1 for anything else."""
        return int.from_bytes(self.payload[4:12], "little") if self.kind == ARRAY else 1

    def decoded(self) -> Decoded:
        """The value as Python has it; raises `UnicodeDecodeError` for text that isn't UTF-8."""
        return _decode(self.kind, self.payload, 0)[0]

    def __repr__(self) -> str:
        what = TYPE_NAMES[self.kind]
        return (
            f"Value({what} of {self.length} {TYPE_NAMES[self.item or 0]})" if self.kind == ARRAY else f"Value({what})"
        )


def _decode(kind: int, data: bytes | memoryview, at: int) -> tuple[Decoded, int]:
    """A value of a checked file, and where it ends."""
    if kind == TEXT:
        end = at + 8 + int.from_bytes(data[at : at + 8], "little")
        return str(data[at + 8 : end], "utf-8"), end
    if kind != ARRAY:
        end = at + SIZES[kind]
        found: Decoded = np.frombuffer(data[at:end], FIXED[kind])[0].item()
        return (bool(found) if kind == BOOL else found), end
    item, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if item in SIZES:
        end = at + count * SIZES[item]
        many: list[Decoded] = np.frombuffer(data[at:end], FIXED[item]).tolist()
        return ([bool(one) for one in many] if item == BOOL else many), end
    if item == TEXT:
        return _decode_texts(data, at, count)
    items: list[Decoded] = []
    for _ in range(count):
        one, at = _decode(item, data, at)
        items.append(one)
    return items, at


def _decode_texts(data: bytes | memoryview, at: int, count: int) -> tuple[list[Decoded], int]:
    """The hot one: pieces and merges of a vocabulary."""
    length_at = struct.Struct("<Q").unpack_from
    items: list[Decoded] = []
    for _ in range(count):
        end = at + 8 + length_at(data, at)[0]
        items.append(str(data[at + 8 : end], "utf-8"))
        at = end
    return items, at


def _text_bytes(text: str) -> bytes:
    content = text.encode()
    return len(content).to_bytes(8, "little") + content


def text(content: str) -> Value:
    return Value(TEXT, _text_bytes(content))


def flag(value: bool) -> Value:
    return Value(BOOL, bytes([value]))


def uint32(number: int) -> Value:
    return Value(UINT32, number.to_bytes(4, "little"))


def float32(number: float) -> Value:
    return Value(FLOAT32, struct.pack("<f", number))


def texts(items: Iterable[str]) -> Value:
    """An array of texts."""
    parts = [_text_bytes(item) for item in items]
    return Value(ARRAY, struct.pack("<IQ", TEXT, len(parts)) + b"".join(parts))


def numbers(kind: int, items: Sequence[float]) -> Value:
    """An array of numbers of the given type."""
    return Value(ARRAY, struct.pack("<IQ", kind, len(items)) + np.asarray(items, FIXED[kind]).tobytes())

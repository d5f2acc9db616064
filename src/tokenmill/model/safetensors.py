"""The header of a safetensors file, checked against the real file before anything is allocated for it.

Layout: 8 bytes with the length of the header, little endian; the header, a JSON object of tensors; their bytes, one
tensor after the other without gap or overlap up to the end of the file. A file that says otherwise is refused.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from tokenmill.model.files import BadModel

#: Bytes of a header; the format allows 100 MB, of which parsing would make three times as much.
HEADER_LIMIT = 32_000_000
#: Bytes of one with letters beyond ASCII, or escapes of such: Python may take four bytes for each letter.
WIDE_LIMIT = 4_000_000
#: Tensors of one file; the largest dense models have a few thousand.
ENTRY_LIMIT = 32_768
#: Commas and colons of a header: an entry has about six and four. They bound what parsing it allocates.
COMMA_LIMIT = 20 * ENTRY_LIMIT
COLON_LIMIT = 5 * ENTRY_LIMIT
DIMENSION_LIMIT = 8
#: Letters of a name: one that fills a header must not be repeated in the message that refuses it.
NAME_LIMIT = 1024
SIZE_LIMIT = 1 << 48

#: Bytes of one element. Types smaller than a byte are for quantized weights, which aren't supported.
WIDTHS = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}


class Stored(Struct, frozen=True):
    """One tensor as it lies in a file; `begin` and `end` count bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(Struct, frozen=True):
    """What a file holds: its tensors by name, the bytes of the header itself and the size of the file."""

    tensors: dict[str, Stored]
    raw: bytes
    size: int


def read_header(path: Path) -> Header:
    """The checked header of the safetensors file at `path`; raises `BadModel`."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            raw = _raw_header(path, file, size)
    except OSError as error:
        raise BadModel(f"{path}: can't be read ({error.strerror})") from error
    entries = _parse(path, raw)
    tensors = {name: _stored(path, name, entry) for name, entry in entries.items()}
    _check_layout(path, tensors, size - 8 - len(raw))
    return Header(tensors, raw, size)


def _refuse(path: Path, reason: str) -> BadModel:
    return BadModel(f"{path}: {reason}; the file is broken or cut short, download it again")


def _raw_header(path: Path, file: BinaryIO, size: int) -> bytes:
    start = file.read(8)
    if len(start) < 8:
        raise _refuse(path, f"{size} bytes are too few for a safetensors file")
    length = int.from_bytes(start, "little")
    if length > HEADER_LIMIT:
        raise _refuse(path, f"a header of {length} bytes is above the limit of {HEADER_LIMIT}")
    if length > size - 8:
        raise _refuse(path, f"a header of {length} bytes doesn't fit into a file of {size}")
    raw = file.read(length)
    if len(raw) < length:
        raise _refuse(path, "the file shrank while it was read")
    return raw


class _Repeated(ValueError):
    """A key that an object of the header has twice."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise _Repeated(name)
        found[name] = value
    return found


def _parse(path: Path, raw: bytes) -> dict[str, object]:
    if raw.count(b"{") > ENTRY_LIMIT or raw.count(b",") > COMMA_LIMIT or raw.count(b":") > COLON_LIMIT:
        raise _refuse(path, f"the header has more than {ENTRY_LIMIT} entries")
    if len(raw) > WIDE_LIMIT and (not raw.isascii() or b"\\u" in raw):
        raise _refuse(path, f"a header of {len(raw)} bytes with letters beyond ASCII is above {WIDE_LIMIT}")
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except _Repeated as error:
        raise _refuse(path, f"the header names {str(error)[:80]!r} twice") from error
    except (ValueError, RecursionError) as error:
        raise _refuse(path, f"the header isn't valid JSON ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise _refuse(path, "the header isn't a JSON object")
    metadata = found.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _refuse(path, "__metadata__ must map names to texts")
    return found


def _stored(path: Path, name: str, entry: object) -> Stored:
    """One entry, with a span that is exactly what its shape and type need."""
    if len(name) > NAME_LIMIT:
        raise _refuse(path, f"a tensor has a name of {len(name)} letters, {name[:40]!r}...")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _refuse(path, f"tensor {name!r} must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in WIDTHS:
        raise BadModel(f"{path}: tensor {name!r} has the unsupported type {_shown(dtype)}; known: {', '.join(WIDTHS)}")
    if not _are_sizes(shape) or len(shape) > DIMENSION_LIMIT:
        raise _refuse(path, f"tensor {name!r} has no valid shape")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _refuse(path, f"tensor {name!r} has no valid data_offsets")
    needed, span = math.prod(shape) * WIDTHS[dtype], offsets[1] - offsets[0]
    if needed != span:
        raise _refuse(path, f"tensor {name!r} of shape {shape} and type {dtype} needs {needed} bytes but has {span}")
    return Stored(dtype, tuple(shape), offsets[0], offsets[1])


def _shown(value: object) -> str:
    """The beginning of a value that a file gives."""
    return repr(value[:40] if isinstance(value, str) else value)[:80]


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= SIZE_LIMIT for value in values)


def _check_layout(path: Path, tensors: dict[str, Stored], data: int) -> None:
    end = 0
    for name, stored in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if stored.begin != end:
            what = "overlaps the one before" if stored.begin < end else f"leaves a gap of {stored.begin - end} bytes"
            raise _refuse(path, f"tensor {name!r} {what}")
        end = stored.end
    if end != data:
        raise _refuse(path, f"the tensors need {end} bytes but {data} follow the header")

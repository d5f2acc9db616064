"""Reads the pieces of a SentencePiece model, the file tokenizer.model, without its library.

The file is a protocol buffer: fields, each a number with the kind of what follows. Pieces are field 1; each has a text,
a score and a type.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from tokenmill.model.files import BadModel

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


class Piece(Struct, frozen=True):
    """One piece; `kind` is one of the types above."""

    text: str
    score: float
    kind: int


def read_pieces(raw: bytes, source: Path) -> list[Piece]:
    """The pieces of the model in `raw`, in the order of their numbers; raises `BadModel`."""
    try:
        return [_piece(content) for field, content in _fields(raw) if field == 1 and isinstance(content, bytes)]
    except (ValueError, IndexError, struct.error) as error:
        raise BadModel(f"{source} isn't a SentencePiece model ({error}); download it again") from error


def _piece(content: bytes) -> Piece:
    text, score, kind = "", 0.0, NORMAL
    for field, found in _fields(content):
        if field == 1 and isinstance(found, bytes):
            text = found.decode()
        elif field == 2 and isinstance(found, bytes):
            score = struct.unpack("<f", found)[0]
        elif field == 3 and isinstance(found, int):
            kind = found
    if not NORMAL <= kind <= BYTE:
        raise ValueError(f"piece {text!r} has the unknown type {kind}")
    return Piece(text, score, kind)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and contents of a message's fields; numbers of fixed size come as their bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == VARINT:
            number, at = _varint(data, at)
            yield tag >> 3, number
            continue
        if kind == BYTES:
            size, at = _varint(data, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if at + size > len(data):
            raise ValueError("a field ends beyond the file")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place in range(10):
        byte = data[at + place]
        number |= (byte & 127) << (7 * place)
        if byte < 128:
            return number, at + place + 1
    raise ValueError("a number without an end")

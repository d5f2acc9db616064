"""JSON as this project accepts it: what parsers read in different ways is refused, not guessed.

The standard library's parser is used for its hooks: msgspec is faster but keeps the last of repeated keys without a
word.
"""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn

from tokenmill.workload.faults import RowFault, shown

MAX_DEPTH = 64
MAX_DIGITS = 100

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_object(data: bytes, offset: int) -> dict[str, object]:
    """One line as an object; `offset` is where it starts in the file, for messages. Raises `RowFault`."""
    text = decode(data, offset)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise RowFault(f"broken JSON at column {error.pos + 1}: {cause(error)}") from error
    except RecursionError as error:
        raise _too_deep() from error
    if not isinstance(value, dict):
        raise RowFault(f"the line holds {_name(value)}; write one JSON object per line")
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _depth_exceeds(value):
        raise _too_deep()
    if b"\\u" in data and _SURROGATE.search(data):
        _check_surrogates(value)
    return value


def read_value(text: str, start: int) -> tuple[object, int]:
    """The value that begins here, or the `RowFault` that is in it, and where it ends.

    Raises `JSONDecodeError` where it is broken or goes on after the text, and `RecursionError` if it is too deep.
    """
    try:
        return _DECODER.raw_decode(text, start)
    except RowFault as fault:
        return fault, _PLAIN.raw_decode(text, start)[1]


def decode(data: bytes, offset: int) -> str:
    """UTF-8 bytes as text; the message of the `RowFault` names the byte in the file, counted from 0."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        place = offset + error.start
        message = f"byte {place} (0x{data[error.start]:02x}) is not UTF-8; convert with iconv -t UTF-8"
        raise RowFault(message) from error
    if "\0" in text:
        raise RowFault(f"byte {offset + data.index(0)} is NUL; remove it")
    return text


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise RowFault(f"key {shown(key)} occurs twice in one object; keep one")
            seen.add(key)
    return result


def _constant(name: str) -> NoReturn:
    raise RowFault(f"{name} is not a JSON number; use null or a finite number")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise RowFault(f"a number has {len(digits)} digits, more than {MAX_DIGITS}; write it as a string")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise RowFault(f"number {shown(digits)} is too large for a float; write it as a string")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_integer, parse_float=_float, strict=True
)
#: Finds the end of a value with a fault in it.
_PLAIN = json.JSONDecoder(parse_constant=str, parse_int=str, parse_float=str, strict=True)


def _depth_exceeds(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _children(outer)]
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)


def _children(value: dict[str, object] | list[object]) -> list[object]:
    return list(value.values()) if isinstance(value, dict) else value


def _check_surrogates(value: dict[str, object]) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise RowFault(
            f"an escape leaves half a character (U+{ord(error.object[error.start]):04X}, a lone surrogate); "
            "write the whole character"
        ) from error


def _too_deep() -> RowFault:
    return RowFault(f"objects or lists are nested more than {MAX_DEPTH} deep; flatten them")


def cause(error: json.JSONDecodeError) -> str:
    """Why JSON can't be read, and what to look at."""
    message, text, position = error.msg, error.doc, error.pos
    if not text[position:].strip():
        return f"{message.lower()}, but the line ends; is it cut off?"
    if message.startswith("Extra data"):
        return "more text after the object; write one JSON object per line"
    return f"{message.lower()}, found {shown(text[position : position + 12])}; check quotes and commas there"


def _name(value: object) -> str:
    if isinstance(value, list):
        return "a JSON list"
    return f"the JSON value {shown(value)}"

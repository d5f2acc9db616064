"""JSON inside an answer: found between other words, and held against a schema."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import Any, NoReturn

from tokenmill.validate import Item, Validator, validator
from tokenmill.validate.pattern import whole

#: The kind of validator that knows JSON schemas.
SCHEMA = "json_schema"
#: Most places of one answer at which JSON is looked for.
MAX_STARTS = 200
#: Most characters of one answer that are read in vain, for each of its own: what never ends is read from every start.
_IN_VAIN = 8
#: Deepest nesting that is read.
MAX_DEPTH = 64

_START = re.compile(r"[{\[]")
#: Strings, of which one that never ends takes the rest, so that nothing is read twice; and commas before an end.
_TRAILING = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|(\\?\Z)))|,(?=\s*[}\]])', re.DOTALL)
_COMMA = re.compile(r",(?=\s*[}\]])")


class _Refused(ValueError):
    """JSON that parsers read in different ways."""


def find_values(text: str) -> list[Any]:
    """The JSON objects and lists of an answer, outermost ones, each once, in order.

    A trailing comma is forgiven. Repeated keys, NaN and infinity are not: what was meant can't be known.
    """
    found = _scan(text)
    if not found and "," in text:
        found = _scan(_TRAILING.sub(_without_comma, text))
    kept: list[Any] = []
    for value in found:
        if value not in kept:
            kept.append(value)
    return kept


def _without_comma(found: re.Match[str]) -> str:
    """What stays of a string or a comma; a string that never ends is none, but a quotation mark before something."""
    return (found[1] or "") if found[2] is None else _COMMA.sub("", found[1])


def _scan(text: str) -> list[Any]:
    found: list[Any] = []
    position, left = 0, max(_IN_VAIN * len(text), 1 << 20)
    for _ in range(MAX_STARTS):
        start = _START.search(text, position)
        if start is None or left < 0:
            break
        try:
            value, position = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError) as error:
            position = start.end()
            left -= getattr(error, "pos", len(text)) - start.start()
            continue
        if value and _depth(value) <= MAX_DEPTH:
            found.append(_whole(value))
    objects = [value for value in found if isinstance(value, dict)]
    return objects or found  # a list beside an object is mostly a remark such as [1]


def _whole(value: Any) -> Any:
    """Without halves of characters, which escapes can write and no file can hold."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, dict):
        return {whole(name): _whole(each) for name, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def misfit(value: Any, schema: dict[str, Any] | None) -> str:
    """Why a value doesn't fit a schema, in one sentence; empty if it does."""
    if schema is None:
        return ""
    item = Item(text=json.dumps(value))
    return _checker(json.dumps(schema)).check([item])[0].reason


@lru_cache(maxsize=64)
def _checker(schema: str) -> Validator:
    return validator(SCHEMA, {"schema": json.loads(schema)})


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _Refused("a key occurs twice")
    return dict(pairs)


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is no JSON number")


def _float(digits: str) -> float:
    if math.isinf(value := float(digits)):
        raise _Refused("a number is too large")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float, strict=False)


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth

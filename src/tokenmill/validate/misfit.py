"""What is wrong with a value that a field doesn't take, in words for people: the library speaks of its own types."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec import inspect

from tokenmill.validate.quote import shown

_WORDS = {
    "str": "a text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
_TYPES = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")


def misfit(value: object, kind: Any) -> str | None:
    """Why a field of this type doesn't take the value, as the end of a sentence that begins with the field's name."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        return "".join(("an entry " if path else "", _told(text, value, kind, is_inside=bool(path))))
    return None


def _told(text: str, value: object, kind: Any, *, is_inside: bool) -> str:
    if found := _TYPES.fullmatch(text):
        wanted = " or ".join(_WORDS.get(name, name) for name in found[1].split(" | ") if name != "null")
        return f"must be {wanted}, not {_WORDS.get(found[2], found[2]) if is_inside else _written(value)}"
    parts = list(_parts(inspect.type_info(kind)))
    if text.startswith("Invalid enum value"):
        known = [str(name) for part in parts if isinstance(part, inspect.LiteralType) for name in part.values]
        near = get_close_matches(str(value), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{_written(value)} is not known; {hint}known: {', '.join(known)}"
    if not is_inside and (limits := _limits(parts)):
        return f"{_written(value)} is out of range; give {limits}"
    return f"{_written(value)} isn't right: {text[:1].lower()}{text[1:]}"


def _parts(info: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(info, inspect.UnionType):
        for each in info.types:
            yield from _parts(each)
    elif isinstance(info, inspect.Metadata):
        yield from _parts(info.type)
    else:
        yield info


def _limits(parts: list[inspect.Type]) -> str:
    """The range of a number, in words; empty if it has none."""
    for part in parts:
        if isinstance(part, inspect.IntType | inspect.FloatType):
            above = f"more than {part.gt:g}" if part.gt is not None else ""
            below = f"less than {part.lt:g}" if part.lt is not None else ""
            if part.ge is not None and part.le is not None:
                return f"{part.ge:g} to {part.le:g}"
            least = f"at least {part.ge:g}" if part.ge is not None else above
            most = f"at most {part.le:g}" if part.le is not None else below
            return " and ".join(filter(None, (least, most)))
    return ""


def _written(value: object) -> str:
    """A value about as a recipe writes it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return shown(json.dumps(value, default=str))

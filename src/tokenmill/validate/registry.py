"""From a kind and options, which are data, to a validator; every fault is named before anything is sent."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import msgspec

from tokenmill.errors import InputFaults
from tokenmill.validate.kind import Kind
from tokenmill.validate.misfit import misfit
from tokenmill.validate.score import Embed, Validator

#: Where each kind lives. They are imported when asked for: some need a library that not every install has.
_MODULES = {
    "clock": "clock_position",
    "combined": "combined",
    "direction": "direction",
    "diversity": "diversity",
    "duplicate": "duplicate",
    "embedding": "embedding",
    "function": "function",
    "json_schema": "json_schema",
    "landmark": "landmark",
    "language": "language",
    "length": "length",
    "near_duplicate": "near_duplicate",
    "quality": "quality",
    "regex": "regex",
    "rule": "rule",
}


def kinds() -> tuple[str, ...]:
    """The names of all kinds of validators."""
    return tuple(sorted(_MODULES))


def validator(
    kind: str,
    options: Mapping[str, object] | None = None,
    *,
    name: str = "",
    embed: Embed | None = None,
) -> Validator:
    """The validator of a kind, called `name`, else as its kind is.

    `embed` turns texts into vectors, for kinds that compare meanings; without it they can be made, but not asked.

    Raises:
        InputFaults: the kind or options are wrong; all faults together.
        UsageError: a library that this kind needs isn't installed.
    """
    called = f"validator {name or kind!r}"
    if kind not in _MODULES:
        raise InputFaults(called, [f"there is no kind {_unknown(kind, kinds())}"])
    found = kind_of(kind)
    given = options or {}
    faults = _faults(found, given)
    if faults:
        raise InputFaults(called, faults)
    made = msgspec.convert(given, found.options)
    if faults := list(made.faults()):
        raise InputFaults(called, faults)
    return found.build(name or kind, made, embed) if found.embeds else found.build(name or kind, made)


def kind_of(kind: str) -> Kind[Any]:
    """What is known of a kind: its options with their ranges, and how it is built."""
    module: object = import_module(f"tokenmill.validate.{_MODULES[kind]}")
    known: Kind[Any] = vars(module)["KIND"]
    return known


def _faults(kind: Kind[Any], given: Mapping[str, object]) -> list[str]:
    """What is wrong with each option by itself: msgspec stops at the first, people want all."""
    known = {field.encode_name: field for field in msgspec.structs.fields(kind.options)}
    faults = []
    for key, value in given.items():
        if key not in known:
            faults.append(f"there is no option {_unknown(str(key), tuple(known))}")
            continue
        if fault := misfit(value, known[key].type):
            faults.append(f"{key}: {fault}")
    faults += [f"{key} is missing; add it" for key, field in known.items() if field.required and key not in given]
    return faults


def _unknown(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{word!r}{hint} Known: {', '.join(known)}"

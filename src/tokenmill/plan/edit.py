"""Changes to the text of an inventory that leave everything else in it as the user wrote it.

Nodes are tables on lines of their own, so one is added at the end of the text and removed with its lines, and the
result is read again and compared. A library that keeps the style of TOML would not do: it takes a comment above a
table for a part of the table before, and so loses it together with that one.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Iterable
from typing import Any

from tokenmill.errors import UsageError
from tokenmill.plan.inventory import FIELDS, Entry

_HEADER = re.compile(r"""\s*\[\[\s*(node|"node"|'node')\s*\]\]\s*(#.*)?""")
BY_HAND = "this change must be made by hand: not every node is a [[node]] table on lines of its own"


def with_entries(text: str, entries: Iterable[Entry]) -> str:
    """The text with further nodes at its end."""
    added = list(entries)
    _headers(text)
    start = text if not text or text.endswith("\n") else text + "\n"
    changed = start
    for entry in added:
        changed += ("\n" if changed else "") + _table(entry)
    return _verified(changed, [*_tables(text), *(_values(entry) for entry in added)])


def without(text: str, names: Collection[str]) -> str:
    """The text without the nodes of these names, and without comments that touch them; but a comment that touches the
    first node stays, as it may speak of the whole file."""
    lines = text.split("\n")
    tables = _tables(text)
    headers = _headers(text)
    starts = [_start(lines, header) if number else header for number, header in enumerate(headers)]
    kept = lines[: starts[0]] if starts else lines
    for table, start, end in zip(tables, starts, [*starts[1:], len(lines)], strict=False):
        block = lines[start:end]
        kept = kept + (block if table["name"] not in names else _apart(block))
    changed = "\n".join(kept).rstrip("\n")
    return _verified(f"{changed}\n" if changed else "", [table for table in tables if table["name"] not in names])


def _apart(block: list[str]) -> list[str]:
    """What stands below a node, a blank line apart, and so speaks of something else."""
    end = max(number for number, line in enumerate(block) if line.strip() and not line.lstrip().startswith("#")) + 1
    while end < len(block) and block[end].strip():
        end += 1
    rest = block[end + 1 :]
    return rest if any(line.strip() for line in rest) else []


def _tables(text: str) -> list[dict[str, Any]]:
    tables: list[dict[str, Any]] = tomllib.loads(text).get("node", [])
    return tables


def _headers(text: str) -> list[int]:
    """The lines on which nodes begin; raises `UsageError` if some begin elsewhere."""
    found = [number for number, line in enumerate(text.split("\n")) if _HEADER.fullmatch(line.rstrip("\r"))]
    if len(found) != len(_tables(text)):
        raise UsageError(BY_HAND)
    return found


def _start(lines: list[str], header: int) -> int:
    """Where a node begins with the comments right above it."""
    while header and lines[header - 1].lstrip().startswith("#"):
        header -= 1
    return header


def _verified(text: str, tables: list[dict[str, Any]]) -> str:
    try:
        if _tables(text) == tables:
            return text
    except tomllib.TOMLDecodeError:
        pass
    raise UsageError(BY_HAND)


def _values(entry: Entry) -> dict[str, Any]:
    """What is said of an entry: everything that isn't left out."""
    values = {field: getattr(entry, field) for field in FIELDS}
    devices = entry.device
    values["device"] = devices[0] if len(devices) == 1 else list(devices)
    return {field: value for field, value in values.items() if value not in (None, [], 0)}


def _table(entry: Entry) -> str:
    """An entry as TOML, whose texts and lists of texts are written as JSON's are."""
    lines = [f"{field} = {json.dumps(value, ensure_ascii=False)}" for field, value in _values(entry).items()]
    return "\n".join(["[[node]]", *lines]) + "\n"

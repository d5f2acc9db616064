"""The JSON Schema of what is printed as JSON, made from the structs themselves, with every definition in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from tokenmill.report.certificate import Certificate
from tokenmill.report.compare import Comparison
from tokenmill.report.data_set import DATA_SET_DEFINITIONS
from tokenmill.report.definitions import DEFINITIONS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def encode() -> bytes:
    """The schema of certificates and comparisons, indented, with a newline at the end."""
    title = "What 'tokenmill report --json' prints: a certificate, or with --compare a comparison"
    return schema_of((Certificate, Comparison), title, DEFINITIONS | DATA_SET_DEFINITIONS)


def schema_of(kinds: Sequence[type[Struct]], title: str, definitions: Mapping[str, str]) -> bytes:
    """The schema of any of these structs; `definitions` describe fields by their names."""
    shapes, components = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    for component in components.values():
        _describe(component, definitions)
    schema = {"$schema": DIALECT, "title": title, "anyOf": list(shapes), "$defs": components}
    return msgspec.json.format(msgspec.json.encode(schema), indent=1) + b"\n"


def _describe(component: dict[str, Any], definitions: Mapping[str, str]) -> None:
    if "description" in component:
        component["description"] = " ".join(component["description"].split())
    for name, shape in component.get("properties", {}).items():
        if name in definitions and "description" not in shape:
            shape["description"] = definitions[name]

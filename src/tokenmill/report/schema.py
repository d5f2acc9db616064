"""The JSON Schema of what `report --json` prints, made from the structs themselves, with every definition in it."""

from __future__ import annotations

from typing import Any

import msgspec

from tokenmill.report.certificate import Certificate
from tokenmill.report.compare import Comparison
from tokenmill.report.definitions import DEFINITIONS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def encode() -> bytes:
    """The schema, indented, with a newline at the end."""
    (certificate, comparison), components = msgspec.json.schema_components(
        (Certificate, Comparison), ref_template="#/$defs/{name}"
    )
    for component in components.values():
        _describe(component)
    schema = {
        "$schema": DIALECT,
        "title": "What 'tokenmill report --json' prints: a certificate, or with --compare a comparison",
        "anyOf": [certificate, comparison],
        "$defs": components,
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=1) + b"\n"


def _describe(component: dict[str, Any]) -> None:
    if "description" in component:
        component["description"] = " ".join(component["description"].split())
    for name, shape in component.get("properties", {}).items():
        if name in DEFINITIONS and "description" not in shape:
            shape["description"] = DEFINITIONS[name]

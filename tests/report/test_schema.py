"""The published JSON Schema is that of the structs, and what is printed keeps to it."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings

from report.dossiers import planted
from report.scripted import runs
from tokenmill.event import Attempt
from tokenmill.report import as_json, schema
from tokenmill.report.certificate import certify
from tokenmill.report.compare import compare
from tokenmill.report.facts import RunFacts

PUBLISHED = Path(__file__).parents[2] / "docs" / "report.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(msgspec.json.decode(schema.encode()))


def test_the_published_schema_is_up_to_date() -> None:
    """If this fails: tokenmill report --schema > docs/report.schema.json."""
    assert PUBLISHED.read_bytes() == schema.encode()
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)


def test_definitions_are_in_the_schema() -> None:
    """Whoever reads the schema learns what each figure means."""
    ratio = VALIDATOR.schema["$defs"]["Bound"]["properties"]["ratio"]

    assert ratio["description"].startswith("bound / makespan")


@settings(max_examples=40, deadline=None)
@given(runs())
def test_every_certificate_keeps_to_the_schema(run: tuple[RunFacts, list[Attempt]]) -> None:
    """Whatever the run, its JSON is valid."""
    VALIDATOR.validate(msgspec.json.decode(as_json.encode(certify(*run))))


def test_a_comparison_keeps_to_the_schema() -> None:
    """So is that of several runs."""
    VALIDATOR.validate(msgspec.json.decode(msgspec.json.encode(compare([planted(), planted(run="two")]))))


def test_something_else_does_not() -> None:
    """The schema refuses what isn't a report."""
    wrong = msgspec.json.decode(as_json.encode(planted().certificate)) | {"bound": 3}

    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(wrong)

"""Whether a text is one JSON value that a schema allows.

The library is `jsonschema`, the reference for Python, made safe for answers of a model: patterns go through RE2, no
reference leaves the schema, and a value that is nested or long beyond reason fails instead of being walked.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tokenmill.errors import UsageError
from tokenmill.validate.kind import Kind, Options
from tokenmill.validate.pattern import BadPattern, Pattern
from tokenmill.validate.quote import quoted, shown
from tokenmill.validate.score import Item, Score

#: Faults of one text that are named; a next prompt is no place for a thousand.
_NAMED = 3


class SchemaOptions(Options, frozen=True, kw_only=True):
    """`schema` is a JSON schema, of draft 2020-12 where it doesn't name another; longer texts than `max_chars` fail."""

    schema: dict[str, Any]
    max_chars: Annotated[int, Meta(ge=2, le=10_000_000)] = 1_000_000

    def faults(self) -> Iterable[str]:
        try:
            _validator(self.schema)
            for text in _texts(self.schema, "pattern"):
                Pattern(text)
        except BadPattern as error:
            yield f"schema has a pattern that isn't one for RE2: {error}"
        except _BadSchema as error:
            yield f"schema isn't a JSON schema: {error}"
        else:
            yield from _dangling(self.schema) or _endless(self.schema)
        if _has_pattern_properties(self.schema):
            yield "schema has patternProperties, which isn't supported; name the properties, or use propertyNames"


class _BadSchema(ValueError):
    pass


class JsonSchema:
    """Passes a text that is JSON and that the schema allows; its value is 1 then, else 0."""

    needs = ()

    def __init__(self, name: str, options: SchemaOptions) -> None:
        self.name = name
        self._longest = options.max_chars
        self._validator = _validator(options.schema)

    def check(self, items: Sequence[Item]) -> list[Score]:
        return [self._one(item.text) for item in items]

    def _one(self, text: str) -> Score:
        reason = self._fault(text)
        return Score(validator=self.name, value=float(not reason), passed=not reason, reason=reason)

    def _fault(self, text: str) -> str:
        if len(text) > self._longest:
            return f"The JSON has {len(text)} characters and must have at most {self._longest}."
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            return f"The text must be one JSON value and nothing else: {error}."
        except RecursionError:
            return "The JSON is nested too deep."
        try:
            return self._refusals(value)
        except RecursionError:
            return "The JSON is nested too deep."
        except (ArithmeticError, ValueError) as error:
            return f"The JSON holds a value that can't be compared: {error}."

    def _refusals(self, value: object) -> str:
        said = []
        for error in self._validator.iter_errors(value):
            said.append(f"at {shown(error.json_path)}: {shown(error.message, 160)}")
            if len(said) == _NAMED:
                break
        return f"The JSON doesn't fit its schema {'; '.join(said)}." if said else ""


def _validator(schema: dict[str, Any]) -> Any:
    try:
        import jsonschema
        import referencing
    except ImportError as error:
        raise UsageError(
            'JSON schemas need the library jsonschema; install it with: pip install "tokenmill[validate]"'
        ) from error
    if not isinstance(schema.get("$schema", ""), str):
        raise _BadSchema("its $schema must be the address of a draft")
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except (jsonschema.SchemaError, RecursionError) as error:
        raise _BadSchema(getattr(error, "message", "it is nested too deep")) from error
    safe = jsonschema.validators.extend(kind, {"pattern": _pattern, "uniqueItems": _unique})
    return safe(schema, registry=referencing.Registry())


def _pattern(_validator: Any, pattern: str, value: object, _schema: object) -> Iterator[Any]:
    """The keyword `pattern` by RE2 instead of Python's `re`."""
    if isinstance(value, str) and not Pattern(pattern).found_in(value):
        yield _error(f"{quoted(value)} doesn't match the pattern {quoted(pattern)}")


def _unique(_validator: Any, wanted: object, value: object, _schema: object) -> Iterator[Any]:
    """The keyword `uniqueItems` by what entries are as text: the library compares objects each with each."""
    if not wanted or not isinstance(value, list):
        return
    seen: set[str] = set()
    for each in value:
        text = json.dumps(_comparable(each), sort_keys=True)
        if text in seen:
            yield _error(f"{shown(json.dumps(each))} occurs more than once")
            return
        seen.add(text)


def _comparable(value: Any) -> Any:
    """A value that is written as all those are that JSON holds equal: 1 as 1.0, but neither as true."""
    if isinstance(value, dict):
        return {name: _comparable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_comparable(each) for each in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        near = float(value)
    except OverflowError:
        return value
    return near + 0.0 if near == value else value  # a sum has no negative zero


def _error(message: str) -> Any:
    import jsonschema

    return jsonschema.ValidationError(message)


def _texts(part: object, key: str) -> Iterator[str]:
    """Every text under `key` in a schema, however deep."""
    if isinstance(part, dict) and isinstance(text := part.get(key), str):
        yield text
    for inner in _inner(part):
        yield from _texts(inner, key)


def _has_pattern_properties(part: object) -> bool:
    """Whether a schema has them: the library matches them with Python's `re` in several places, which may never end."""
    if isinstance(part, dict) and isinstance(part.get("patternProperties"), dict):
        return True
    return any(_has_pattern_properties(inner) for inner in _inner(part))


def _inner(part: object) -> Iterable[object]:
    return part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()


def _endless(schema: dict[str, Any]) -> list[str]:
    """References that lead in a circle whatever the value is: no value would ever be allowed or refused."""
    every: tuple[object, ...] = (None, True, 0, "", [], {})
    try:
        for value in every:
            list(_validator(schema).iter_errors(value))
    except RecursionError:
        return ["schema refers to itself without end; put a $ref that does under properties or items"]
    return []


def _dangling(schema: object) -> list[str]:
    """References that lead nowhere within the schema: nothing is ever fetched."""
    import referencing
    import referencing.jsonschema

    root = referencing.Resource.from_contents(schema, referencing.jsonschema.DRAFT202012)
    resolver = referencing.Registry().with_resource("", root).resolver()
    found = []
    for reference in itertools.chain(_texts(schema, "$ref"), _texts(schema, "$dynamicRef")):
        try:
            resolver.lookup(reference)
        except referencing.exceptions.Unresolvable:
            found.append(f"{quoted(reference)}, which isn't in it; nothing is fetched, so put it under $defs")
    return [f"schema refers to {each}" for each in found]


KIND = Kind(SchemaOptions, JsonSchema, scale=(0.0, 1.0))

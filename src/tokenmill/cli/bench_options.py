"""A suite's options as options of its command: the fields of its struct, their descriptions and limits."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from msgspec import Struct, inspect

from tokenmill.bench.suite import FOUND
from tokenmill.errors import UsageError


def options_of(struct: type[Struct]) -> list[click.Option]:
    """One option for each field; a field `two_words` is `--two-words`, a tuple may be given again, a bool is a flag."""
    return [_option(field) for field in _fields(struct) if not _is_found(field)]


def _fields(struct: type[Struct]) -> tuple[inspect.Field, ...]:
    found = inspect.type_info(struct)
    assert isinstance(found, inspect.StructType)
    return found.fields


def _is_found(field: inspect.Field) -> bool:
    """Whether the suite fills it in itself."""
    return isinstance(field.type, inspect.Metadata) and (field.type.extra or {}).items() >= FOUND.items()


def _option(field: inspect.Field) -> click.Option:
    name = f"--{field.name.replace('_', '-')}"
    kind, help_text = field.type, ""
    if isinstance(kind, inspect.Metadata):
        help_text = str((kind.extra_json_schema or {}).get("description", ""))
        kind = kind.type
    default = None if field.default is msgspec.NODEFAULT else field.default
    if isinstance(kind, inspect.UnionType):
        kind = next(each for each in kind.types if not isinstance(each, inspect.NoneType))
    if isinstance(kind, inspect.BoolType):
        return click.Option([name], is_flag=True, help=help_text)
    shown = help_text if default in (None, (), "") else f"{help_text} [{default}]"
    if isinstance(kind, inspect.VarTupleType):
        return click.Option([name], multiple=True, metavar=field.name.upper(), help=shown)
    plain = {inspect.IntType: int, inspect.FloatType: float}.get(type(kind), str)
    return click.Option([name], type=plain, default=default, metavar=_METAVARS[plain], help=shown)


_METAVARS = {int: "N", float: "X", str: "TEXT"}


def convert(struct: type[Struct], given: dict[str, Any]) -> Struct:
    """The options as the suite's struct.

    Raises:
        UsageError: a value is out of its limits.
    """
    try:
        return msgspec.convert({name: value for name, value in given.items() if value is not None}, struct)
    except msgspec.ValidationError as error:
        said, _, field = str(error).partition(" - at `$.")
        name = field.rstrip("`")
        option = f"--{name.replace('_', '-')} {given.get(name)}" if name in given else "bench"
        raise UsageError(f"{option}: {said[:1].lower()}{said[1:].replace('`', '')}{_known(struct, name)}") from error


def _known(struct: type[Struct], name: str) -> str:
    """The values of an option that takes some words alone."""
    for field in _fields(struct):
        kind = field.type.type if isinstance(field.type, inspect.Metadata) else field.type
        if field.name == name and isinstance(kind, inspect.LiteralType):
            return f"; known: {', '.join(map(str, kind.values))}"
    return ""

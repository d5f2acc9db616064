"""From a recipe file, or its name, to a recipe that holds; all that is wrong with one is told together."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from tokenmill.errors import InputFaults, UsageError
from tokenmill.pipeline.examine import examine
from tokenmill.pipeline.recipe import Check, Parser, Recipe, Stage
from tokenmill.validate.misfit import misfit
from tokenmill.validate.quote import shown

SHIPPED = ("contrastive", "paraphrase", "qa", "judge")
#: Bytes of the longest recipe file; what is larger is some other file.
MOST_BYTES = 1024 * 1024
_KNOWN = f"shipped: {', '.join(SHIPPED)}, or name a .toml file"

_Kind = TypeVar("_Kind", bound=Struct)


def recipe(name: str, *, embedding: str | None = None) -> Recipe:
    """A shipped recipe by its name; `embedding` names what makes the vectors that its checks compare.

    Raises:
        UsageError: there is no such recipe.
        InputFaults: it compares vectors, and nothing that makes them is named.
    """
    return read(recipe_text(name), f"recipe {name}", embedding=embedding)


def recipe_text(name: str) -> str:
    """A shipped recipe as it is written.

    Raises:
        UsageError: there is no such recipe.
    """
    if name not in SHIPPED:
        raise _unknown(name)
    return resources.files("tokenmill.pipeline").joinpath("recipes", f"{name}.toml").read_text(encoding="utf-8")


def load(source: str, *, embedding: str | None = None) -> Recipe:
    """A recipe by its name, or from a TOML file; a shipped name wins, so such a file is written with `./`.

    `embedding` comes before what the recipe names.

    Raises:
        UsageError: there is no such recipe or file.
        InputFaults: it doesn't hold; all its faults, each with its place and the way out.
    """
    if source in SHIPPED:
        return recipe(source, embedding=embedding)
    path = Path(source)
    if not path.suffix and not _exists(path):
        raise _unknown(source)
    return read(_text(path), source, embedding=embedding)


def _unknown(name: str) -> UsageError:
    near = get_close_matches(name, SHIPPED, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"there is no recipe {shown(name)!r}; {hint}{_KNOWN}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long for a name
        return False


def _text(path: Path) -> str:
    """What a recipe file holds; raises `UsageError` for one that can't be a recipe, without reading all of it."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise UsageError(f"recipe {path}: has more than {MOST_BYTES:,} bytes, so it is none; {_KNOWN}")
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        reason = f"byte {error.start + 1} (0x{data[error.start]:02x}) is not UTF-8"
        raise UsageError(f"recipe {path}: {reason}; save it as UTF-8") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"recipe {shown(str(path))}: can't be read ({reason}); {_KNOWN}") from error


def read(text: str, source: str, *, embedding: str | None = None) -> Recipe:
    """A recipe from TOML; raises `InputFaults`."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputFaults(source, [f"not TOML: {error}; correct it there"]) from error
    except RecursionError as error:
        raise InputFaults(source, ["not TOML that can be read: it is nested too deep; make it flatter"]) from error
    except ValueError as error:  # a number with thousands of digits
        raise InputFaults(source, [f"not TOML that can be read: {error}"]) from error
    if not data:
        raise InputFaults(source, ["is empty; write a name and a [[stage]], see docs/pipelines.md"])
    return _examined(data, source, embedding)


def check(found: Recipe) -> Recipe:
    """A recipe made in Python, once it holds; raises `InputFaults`."""
    source = f"recipe {found.name}"
    try:
        data = msgspec.to_builtins(found)
    except (TypeError, ValueError, RecursionError) as error:
        reason = f'it holds what no recipe can: {shown(str(error))}; name a function as "module:name" instead'
        raise InputFaults(source, [reason]) from error
    stages = data.pop("stages")
    data["stage"] = [*map(_as_written, stages)] if isinstance(stages, list | tuple) else stages
    return _examined(data, source)


def _as_written(stage: Any) -> Any:
    """A stage with the name that its checks have in TOML."""
    if not isinstance(stage, dict):
        return stage
    return {"check" if name == "checks" else name: value for name, value in stage.items()}


def _endless(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Infinities and what is no number, with their places; no record of a run could give them back."""
    if isinstance(value, float) and not isfinite(value):
        yield place, value
    named = value.items() if isinstance(value, dict) else enumerate(value, 1) if isinstance(value, list | tuple) else ()
    for name, each in named:
        yield from _endless(each, f"{place}, {name}" if place else str(name))


def _examined(data: dict[str, Any], source: str, embedding: str | None = None) -> Recipe:
    faults: list[str] = []
    endless = list(_endless(data))
    found = _recipe(data, faults)
    if found is not None:
        found = msgspec.structs.replace(found, embedding=found.embedding if embedding is None else embedding)
        faults += examine(found)
    faults = faults or [f"{place}: {number} is no finite number; give one" for place, number in endless]
    if faults or found is None:
        raise InputFaults(source, faults)
    return found


def _recipe(data: dict[str, Any], faults: list[str]) -> Recipe | None:
    """The recipe of this data, read stage by stage, so that a fault in one doesn't hide those of others."""
    given = data.pop("stage", None)
    if not isinstance(given, list) or not given:
        brackets = ", in two brackets" if isinstance(given, dict) else ""
        faults.append(f"it has no stages; write each under [[stage]]{brackets}")
        given = []
    stages = []
    for number, each in enumerate(given, 1):
        name = each.get("name") if isinstance(each, dict) else None
        place = f"stage {name!r}" if isinstance(name, str) else f"stage {number}"
        stage = _stage(each, place, faults)
        if stage is not None:
            stages.append(stage)
    whole = _converted(data, Recipe, "at the top", faults, {"stages"})
    if whole is None or len(stages) != len(given) or not stages:
        return None
    return msgspec.structs.replace(whole, stages=tuple(stages))


def _stage(data: Any, place: str, faults: list[str]) -> Stage | None:
    if not isinstance(data, dict):
        faults.append(f"{place}: is no table; write [[stage]]")
        return None
    parser = _converted(data.pop("parse", {}), Parser, f"{place}, parse", faults)
    checks = _checks(data.pop("check", []), place, faults)
    stage = _converted(data, Stage, place, faults, {"parse", "checks"})
    if stage is None or parser is None or checks is None:
        return None
    return msgspec.structs.replace(stage, parse=parser, checks=checks)


def _checks(given: Any, place: str, faults: list[str]) -> tuple[Check, ...] | None:
    if not isinstance(given, list | tuple):
        faults.append(f"{place}, check: is no list; write each under [[stage.check]], in two brackets")
        return None
    checks = []
    for number, each in enumerate(given, 1):
        use = each.get("use") if isinstance(each, dict) else None
        name = repr(use) if isinstance(use, str) else str(number)
        checks.append(_converted(each, Check, f"{place}, check {name}", faults))
    return tuple(each for each in checks if each is not None) if all(checks) else None


def _converted(
    data: Any, kind: type[_Kind], place: str, faults: list[str], apart: set[str] | None = None
) -> _Kind | None:
    """Data as a struct; each field is tried by itself, as all faults are wanted and the library stops at the first."""
    if not isinstance(data, Mapping):
        faults.append(f"{place}: must be a table, not {data!r}")
        return None
    found = list(_field_faults(data, kind, apart or set()))
    faults += [f"{place}: {each}" for each in found]
    return None if found else msgspec.convert(dict(data), kind)


def _field_faults(data: Mapping[str, Any], kind: type[Struct], apart: set[str]) -> Iterator[str]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind) if field.encode_name not in apart}
    written = list(fields) + [{"checks": "check", "stages": "stage"}.get(name, name) for name in sorted(apart)]
    for name, value in data.items():
        if name not in fields:
            near = get_close_matches(name, written, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            yield f"{name!r} is not known; {hint}known: {', '.join(written)}"
            continue
        if fault := misfit(value, fields[name].type):
            yield f"{name}: {fault}"
    for name, field in fields.items():
        if field.required and name not in data:
            yield f"{name!r} is missing; add it"

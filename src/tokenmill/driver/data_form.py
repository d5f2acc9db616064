"""The forms in which a data set is written: lines of JSON, Parquet, or the structure of the input.

Each takes the stories of a run in the order of the input and writes as it goes, so none keeps the data set in memory.
What it writes is a function of what it was given and of the version of the library, with no time and no machine in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Protocol

from tokenmill.errors import UsageError
from tokenmill.pipeline.recipe import Recipe
from tokenmill.validate.pattern import whole

FORMS = ("jsonl", "parquet", "json")
_SUFFIXES = {"ndjson": "jsonl", "pq": "parquet"}
#: The field of the input's structure that holds what was made of a row.
FIELD = "paraphrases"
#: Items of one row group of Parquet.
_GROUP = 10_000
#: Columns that are text; the others have types of their own.
_TEXTS = ("id", "item", "stage", "role", "text", "label", "outcome", "about")


def form_of(path: Path, recipe: Recipe, chosen: str | None = None) -> str:
    """The form by option, else by suffix; raises `UsageError` for one that can't be written or can't hold the items."""
    name = chosen or path.suffix.lstrip(".").lower()
    name = _SUFFIXES.get(name, name)
    if name not in FORMS:
        raise UsageError(
            f"{path}: a data set is written as .jsonl or .parquet, an item a line or row, or as .json, the structure "
            "of the input; end the name so"
        )
    if name == "parquet" and find_spec("pyarrow") is None:
        raise UsageError(f"{path}: Parquet needs pyarrow: pip install 'tokenmill[parquet]', or end the name in .jsonl")
    if name == "json":
        for stage in recipe.stages:
            if stage.of is not None and not stage.judges:
                raise UsageError(
                    f"{path}: recipe {recipe.name!r} asks about items (stage {stage.name!r}), and the structure of the "
                    "input has a place only for items of rows; end the name in .jsonl"
                )
    return name


def beside(path: Path, what: str) -> Path:
    """The file beside a data set that holds its `rest`, or the rows that were `missed`."""
    return path.with_name(f"{path.stem}.{what}.jsonl")


class Form(Protocol):
    """Writes accepted items; `close` ends the file."""

    def add(self, root: int, items: list[dict[str, Any]], /) -> None:
        """Takes the accepted items of one row, also if there are none."""
        ...

    def close(self) -> None: ...


class Lines:
    """An item a line."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, _: int, items: list[dict[str, Any]], /) -> None:
        for item in items:
            self._file.write(encoded(item))

    def close(self) -> None:
        pass


class Parquet:
    """An item a row. Its scores are one column, numbers by name; input and data, which differ by row, are JSON."""

    def __init__(self, file: IO[bytes], recipe: Recipe) -> None:
        import pyarrow
        import pyarrow.parquet

        self._table = pyarrow.Table
        self._names = _scores(recipe)
        text = pyarrow.string()
        columns = dict.fromkeys(_TEXTS, text) | {"round": pyarrow.int32()}
        if self._names:
            columns["scores"] = pyarrow.struct([(name, pyarrow.float64()) for name in self._names])
        columns |= {"flags": pyarrow.list_(text), "reasons": pyarrow.list_(text), "data": text, "input": text}
        self._schema = pyarrow.schema(columns)
        self._writer = pyarrow.parquet.ParquetWriter(file, self._schema)
        self._held: list[dict[str, Any]] = []

    def add(self, _: int, items: list[dict[str, Any]], /) -> None:
        for item in items:
            self._held.append(self._row(item))
            if len(self._held) == _GROUP:
                self._flush()

    def close(self) -> None:
        if self._held:
            self._flush()
        self._writer.close()

    def _row(self, item: Mapping[str, Any]) -> dict[str, Any]:
        row = {name: whole(value) if isinstance(value, str) else value for name, value in item.items()}
        row["reasons"] = [whole(reason) for reason in item["reasons"]]
        row["scores"] = {name: item["scores"].get(name) for name in self._names}
        row["data"] = json.dumps(item["data"]) if "data" in item else None
        row["input"] = json.dumps(item["input"])
        return row

    def _flush(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._held, schema=self._schema))
        self._held.clear()


class Structure:
    """The input again, a list of its rows or episodes, each row with what was made of it: texts by role.

    `source` turns (row, field, value) of each row into what is written, in the order of the input.
    """

    def __init__(self, file: IO[bytes], recipe: Recipe, source: Source) -> None:
        self._file = file
        self._roles = [role for stage in recipe.stages if not stage.judges for role in stage.roles]
        self._source = source
        self._count = 0
        file.write(b"[")

    def add(self, root: int, items: list[dict[str, Any]], /) -> None:
        made: dict[str, list[str]] = {role: [] for role in self._roles}
        for item in items:
            made[item["role"]].append(item["text"])
        self._write(self._source.add(root, FIELD, made))

    def close(self) -> None:
        self._write(self._source.rest())
        self._file.write(b"\n]\n")

    def _write(self, elements: Iterator[dict[str, Any]]) -> None:
        for element in elements:
            self._file.write((b",\n" if self._count else b"\n") + json.dumps(element).encode())
            self._count += 1


class Source(Protocol):
    """The input as it was read. What is given for a row may make earlier elements complete."""

    def add(self, root: int, name: str, value: object) -> Iterator[dict[str, Any]]: ...
    def rest(self) -> Iterator[dict[str, Any]]: ...


class Rows:
    """Rows that stand each for itself; `fields` reads one, empty if it could not be read as a row."""

    def __init__(self, fields: Callable[[int], dict[str, Any]]) -> None:
        self._fields = fields

    def add(self, root: int, name: str, value: object) -> Iterator[dict[str, Any]]:
        fields = self._fields(root)
        if fields:
            yield {**fields, name: value}

    def rest(self) -> Iterator[dict[str, Any]]:
        yield from ()


def _scores(recipe: Recipe) -> list[str]:
    """The names of all scores that an item can have, in the order of the recipe."""
    names: dict[str, None] = {}
    for stage in recipe.stages:
        names |= dict.fromkeys([stage.name] if stage.judges else [check.called for check in stage.checks])
    return list(names)


def encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"

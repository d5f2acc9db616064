"""The metadata of a GGUF file, looked up by key with the type that the reader of a key expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tokenmill.model.files import BadModel
from tokenmill.quant.gguf.value import Decoded, Value


class Metadata(Mapping[str, Value]):
    """Values by key, in the order of the file. A value of another type than asked for is a fault of the file."""

    def __init__(self, source: Path, values: Mapping[str, Value]) -> None:
        self.source = source
        self._values = values

    def __getitem__(self, key: str) -> Value:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def text(self, key: str, default: str | None = None) -> str:
        """The text under `key`; required without a default."""
        found = self._found(key, default)
        if not isinstance(found, str):
            raise self._wrong(key, found, "a text")
        return found

    def integer(self, key: str, default: int | None = None) -> int:
        """The whole number under `key`; required without a default."""
        found = self._found(key, default)
        if isinstance(found, bool) or not isinstance(found, int):
            raise self._wrong(key, found, "a whole number")
        return found

    def real(self, key: str, default: float | None = None) -> float:
        """The number under `key`; required without a default."""
        found = self._found(key, default)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise self._wrong(key, found, "a number")
        return float(found)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """The flag under `key`; required without a default."""
        found = self._found(key, default)
        if not isinstance(found, bool):
            raise self._wrong(key, found, "true or false")
        return found

    def texts(self, key: str) -> list[str]:
        """The list of texts under `key`."""
        found = self._list(key)
        if not all(isinstance(one, str) for one in found):
            raise self._wrong(key, found, "a list of texts")
        return found  # type: ignore[return-value]  # checked just above

    def numbers(self, key: str) -> list[float]:
        """The list of numbers under `key`; whole numbers stay whole."""
        found = self._list(key)
        if not all(isinstance(one, int | float) for one in found):
            raise self._wrong(key, found, "a list of numbers")
        return found  # type: ignore[return-value]  # checked just above

    def _list(self, key: str) -> list[Decoded]:
        found = self._found(key, None)
        if not isinstance(found, list):
            raise self._wrong(key, found, "a list")
        return found

    def _found(self, key: str, default: Decoded | None) -> Decoded:
        value = self._values.get(key)
        if value is None:
            if default is None:
                raise BadModel(f"{self.source}: the key {key} is missing; convert the model again with a newer tool")
            return default
        try:
            return value.decoded()
        except UnicodeDecodeError as error:
            raise BadModel(
                f"{self.source}: {key} isn't valid UTF-8 ({error.reason}); download the file again"
            ) from error

    def _wrong(self, key: str, found: object, wanted: str) -> BadModel:
        shown = f"a list of {len(found)}" if isinstance(found, list) else repr(found)[:80]
        return BadModel(f"{self.source}: {key} must be {wanted} but is {shown}; convert the model again")

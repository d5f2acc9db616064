"""Checked reading of one JSON object: each fault is noted and a harmless value stands in, so all are found at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

_ABSENT = object()


class Fields:
    """The values of one object, by key; `faults` collects what is wrong with them."""

    def __init__(self, values: Mapping[str, object], faults: list[str] | None = None, place: str = "") -> None:
        self.values = values
        self.faults: list[str] = [] if faults is None else faults
        self._place = place

    def fault(self, text: str) -> None:
        self.faults.append(f"{self._place}{text}")

    def has(self, key: str) -> bool:
        """Whether the key is there, even with null."""
        return key in self.values

    def is_null(self, key: str) -> bool:
        return self.values.get(key, _ABSENT) is None

    def nested(self, key: str) -> Fields | None:
        """The object under `key`, sharing this one's faults; None when it is absent, null or empty."""
        value = self.values.get(key)
        if not value:
            return None
        if not isinstance(value, dict):
            self.fault(f"{key} {value!r} must be an object")
            return None
        return Fields(value, self.faults, f"{self._place}{key}.")

    def size(self, keys: Sequence[str], most: int, default: int | None = None, least: int = 1) -> int:
        """A whole number from `least` to `most` under the first of `keys` that is there; required without a default."""
        key = next((key for key in keys if self.values.get(key) is not None), None)
        if key is None:
            if default is None:
                self.fault(f"{keys[0]} is missing")
                return least
            return default
        value = self.values[key]
        if isinstance(value, bool) or not isinstance(value, int):
            self.fault(f"{key} {value!r} must be a whole number")
        elif not least <= value <= most:
            self.fault(f"{key} {value} is out of range; expected {least} to {most}")
        else:
            return value
        return least

    def positive(self, key: str, default: float | None, below: float = math.inf) -> float:
        """A number above 0 and under `below`; required without a default."""
        value = self.values.get(key)
        if value is None:
            if default is None:
                self.fault(f"{key} is missing")
                return below if below < math.inf else 1.0
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fault(f"{key} {value!r} must be a number")
        elif not 0 < value < below:
            self.fault(f"{key} {value} must be above 0 and below {below}")
        else:
            return float(value)
        return 1.0

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fault(f"{key} {value!r} must be true or false")
            return default
        return value

    def choice(self, keys: Sequence[str], choices: Mapping[str, str], default: str) -> str:
        """What `choices` has for the value under the first of `keys` that is there, else for `default`."""
        key = next((key for key in keys if self.values.get(key) is not None), None)
        value = default if key is None else self.values[key]
        if not isinstance(value, str) or value not in choices:
            self.fault(f"{key} {value!r} isn't supported; known: {', '.join(choices)}")
            return choices[default]
        return choices[value]

    def must_be(self, key: str, wanted: object, *, default: object) -> None:
        """Refuses a switch that isn't implemented."""
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) is not isinstance(wanted, bool) or value != wanted:
            self.fault(f"{key} {value!r} isn't supported; only {wanted!r} is")

    def divides(self, divisor_name: str, divisor: int, name: str, value: int) -> None:
        """Notes a fault unless `divisor` divides `value`; silent once there are faults, which would only repeat."""
        if not self.faults and value % divisor:
            self.fault(f"{divisor_name} {divisor} doesn't divide {name} {value}")

    def token_ids(self, key: str) -> tuple[int, ...]:
        """One token id or a list of them; empty when absent or null."""
        value = self.values.get(key)
        if value is None:
            return ()
        ids = value if isinstance(value, list) else [value]
        if any(isinstance(one, bool) or not isinstance(one, int) or one < 0 for one in ids):
            self.fault(f"{key} {value!r} must be a token id or a list of them")
            return ()
        return tuple(ids)

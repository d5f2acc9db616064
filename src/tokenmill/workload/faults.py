"""What is wrong with rows: one line each, collected until the whole input has been read."""

from __future__ import annotations

from tokenmill.errors import InputFaults

#: Fault texts kept; further ones are only counted, so a file that is wrong throughout stays cheap.
KEPT = 1000
#: Longest user value shown in a fault, characters.
SHOWN = 60


class RowFault(Exception):
    """One row can't become a request; the text says why and what to do, the caller adds the place."""


class Faults:
    """The faults of one input, in the order they were met."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.kept: list[str] = []
        self.count = 0

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.kept) < KEPT:
            self.kept.append(text)

    def raise_any(self) -> None:
        if self.count:
            raise InputFaults(self.source, self.kept, self.count - len(self.kept))


def refuse(source: str, text: str) -> InputFaults:
    """The error for an input that can't be read at all."""
    return InputFaults(source, [text])


def shown(value: object) -> str:
    """A user's value as it may stand in a one-line message: escaped and cut."""
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."

"""What a driver needs of whoever keeps its words: the `Writer` of a record, or one that keeps nothing."""

from __future__ import annotations

from typing import Protocol

from tokenmill.event import Answer
from tokenmill.record.writer import Parameters
from tokenmill.request import Usage


class Book(Protocol):
    """Takes entries in order; each call returns the number of its last entry, by which it is told what is written."""

    def put(self, *entries: tuple[str, Parameters]) -> int: ...

    def dispatched(self, attempt: int, row: int, lease: int, node: int, session: int, time: float) -> int: ...

    def finished(self, attempt: int, row: int, time: float, answer: Answer, *more: tuple[str, Parameters]) -> int: ...

    def ended(
        self, attempt: int, outcome: str, time: float, kind: str = "", message: str = "", used: Usage | None = None
    ) -> int: ...

    def set_aside(self, row: int, attempt: int | None, kind: str, reason: str) -> int: ...

    def close(self) -> None:
        """Returns when nothing more has to be written; called in a thread."""
        ...

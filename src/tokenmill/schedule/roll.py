"""The rows of a simulation: 5 bytes for each, so that ten million of them fit beside what the strategy keeps."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from math import inf

from tokenmill.schedule.outcome import SimRow

#: What became of a row.
_ABSENT, _WAITS, _ANSWERED, _SET_ASIDE = range(4)


class Roll:
    """Which rows there are, what each takes, and which are final. `rows` come in the order of their arrival."""

    def __init__(self, rows: Iterable[SimRow]) -> None:
        self._coming: Iterator[SimRow] = iter(rows)
        self._next = next(self._coming, None)
        self._tokens = array("I")
        self._states = bytearray()
        self.unfinished = 0  # of those that have arrived

    @property
    def next_arrival(self) -> float:
        """When the next row arrives; infinity when all have."""
        return inf if self._next is None else self._next.arrives

    @property
    def is_over(self) -> bool:
        """Whether every row has arrived and is final."""
        return self._next is None and not self.unfinished

    def arrivals(self, now: float) -> Iterator[SimRow]:
        """The rows that arrive by this moment, each entered when it is taken."""
        while self._next is not None and self._next.arrives <= now:
            row = self._next
            self._next = next(self._coming, None)
            assert self.next_arrival >= row.arrives, f"row {row.row} arrives after one that is listed behind it"
            self._enter(row)
            yield row

    def _enter(self, row: SimRow) -> None:
        missing = row.row + 1 - len(self._states)
        if missing > 0:
            self._tokens.extend([0] * missing)
            self._states.extend(bytes(missing))
        assert self._states[row.row] == _ABSENT, f"row {row.row} is there twice"
        self._tokens[row.row] = row.tokens
        self._states[row.row] = _WAITS
        self.unfinished += 1

    def tokens(self, row: int) -> int:
        return self._tokens[row]

    def is_answered(self, row: int) -> bool:
        return self._states[row] == _ANSWERED

    def is_set_aside(self, row: int) -> bool:
        return self._states[row] == _SET_ASIDE

    def answer(self, row: int) -> None:
        self._end(row, _ANSWERED)

    def set_aside(self, row: int) -> None:
        self._end(row, _SET_ASIDE)

    def _end(self, row: int, state: int) -> None:
        self.unfinished -= self._states[row] == _WAITS
        self._states[row] = state

    def count_unfinished(self) -> int:
        """The rows without a final word at the end, with those that were still to arrive."""
        return self.unfinished + (self._next is not None) + sum(1 for _ in self._coming)

"""The attempts in flight. A row has one, or two on different nodes while it is hedged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator


class InFlight:
    """A dispatched row: its attempt number in the record, its lease, and the task once it was sent.

    `is_void`: another attempt has answered the row, so whatever this one brings is too late.
    """

    __slots__ = ("attempt", "is_void", "lease", "node", "row", "task")

    def __init__(self, row: int, node: int, lease: int, attempt: int) -> None:
        self.row, self.node, self.lease, self.attempt = row, node, lease, attempt
        self.is_void = False
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Ends the attempt if it was sent; its last event says so."""
        if self.task is not None:
            self.task.cancel()


class Flights:
    """Flights by row; finding one costs the same however many there are."""

    def __init__(self) -> None:
        self._of_row: dict[int, tuple[InFlight, ...]] = {}

    def __len__(self) -> int:
        """Rows in flight."""
        return len(self._of_row)

    def __iter__(self) -> Iterator[InFlight]:
        return (flight for flights in list(self._of_row.values()) for flight in flights)

    def of_row(self, row: int) -> tuple[InFlight, ...]:
        return self._of_row.get(row, ())

    def find(self, row: int, lease: int) -> InFlight | None:
        """The flight of this lease; None if it has ended, so that a late word of it finds nothing."""
        for flight in self._of_row.get(row, ()):
            if flight.lease == lease:
                return flight
        return None

    def add(self, flight: InFlight) -> None:
        others = self.of_row(flight.row)
        assert all(other.node != flight.node for other in others), f"row {flight.row} is in flight there already"
        self._of_row[flight.row] = (*others, flight)

    def remove(self, flight: InFlight) -> None:
        others = tuple(other for other in self._of_row[flight.row] if other is not flight)
        if others:
            self._of_row[flight.row] = others
        else:
            del self._of_row[flight.row]

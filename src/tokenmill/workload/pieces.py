"""What a feed gives: a piece for each row of the input, and the states of the files it read."""

from __future__ import annotations

from collections.abc import Callable

from tokenmill.workload.input import FileState

#: Line or row number from 1, offset in the data file, bytes of the row, fault.
Piece = tuple[int, int, bytes, str | None]
#: State of the file the user named, if any, and of the file that rows are read from.
States = tuple[FileState | None, FileState]


class Placed:
    """Says where pieces stand: by the number of a line or row, or as `places` tells it."""

    unit = "line"
    skipped = 0
    places: Callable[[int], str] | None = None

    def place(self, number: int) -> str:
        return f"{self.unit} {number}" if self.places is None else self.places(number)

    def within(self, _: str | None, /) -> str:
        return ""

"""Finds repeated ids among a million without keeping them.

An id is kept as a 64-bit hash with the place of its row, about 32 bytes in all; a hit is confirmed by reading the
earlier row again, so a collision of hashes is never taken for a repeated id.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Callable

_MASK = 2**64 - 1


def normal(custom_id: str) -> str:
    """The id as it is compared: two spellings of the same Unicode text are one id."""
    return custom_id if custom_id.isascii() else unicodedata.normalize("NFC", custom_id)


class Ids:
    """Ids seen so far; `reread(row)` returns the id of an earlier row as it stands in the input."""

    def __init__(self, reread: Callable[[int], str]) -> None:
        self._reread = reread
        self._hashes = array("Q")
        self._offsets = array("Q")
        self._lengths = array("I")
        self._lines = array("Q")
        self._slots = array("I", bytes(4 * 1024))

    def place(self, row: int) -> tuple[int, int, int]:
        """Offset, length and line of an earlier row."""
        return self._offsets[row], self._lengths[row], self._lines[row]

    def claim(self, custom_id: str, offset: int, length: int, line: int) -> int | None:
        """Keeps the next row under this id, or returns the row that has it already and keeps nothing."""
        name = custom_id if custom_id.isascii() else normal(custom_id)
        code, slots, hashes = hash(name) & _MASK, self._slots, self._hashes
        last = len(slots) - 1
        slot = code & last
        while entry := slots[slot]:
            if hashes[entry - 1] == code and normal(self._reread(entry - 1)) == name:
                return entry - 1
            slot = (slot + 1) & last
        self._keep(code, offset, length, line)
        rows = len(hashes)
        slots[slot] = rows
        if 2 * rows > len(slots):
            self._grow()
        return None

    def skip(self, offset: int, length: int, line: int) -> None:
        """Keeps the next row without an id."""
        self._keep(0, offset, length, line)

    def _keep(self, code: int, offset: int, length: int, line: int) -> None:
        self._hashes.append(code)
        self._offsets.append(offset)
        self._lengths.append(length)
        self._lines.append(line)

    def _insert(self, code: int, entry: int) -> None:
        slots, last = self._slots, len(self._slots) - 1
        slot = code & last
        while slots[slot]:
            slot = (slot + 1) & last
        slots[slot] = entry

    def _grow(self) -> None:
        before = self._slots
        self._slots = array("I", bytes(2 * before.itemsize * len(before)))
        for entry in before:
            if entry:
                self._insert(self._hashes[entry - 1], entry)

"""A stream of bytes cut into events: server-sent events and newline-delimited JSON. Pure, and linear in the bytes.

A decoder may be fed any split of a stream, down to single bytes, and yields the same events. What is kept between
calls is at most one event, and an event has a largest size, so a server can't fill our memory.
"""

from __future__ import annotations

from tokenmill.errors import EngineError

#: Longest event, in bytes. One token with all its log probabilities is a hundredth of this.
EVENT_BYTES = 1 << 20


class LineCutter:
    """Complete lines without their ends; LF, CRLF and CR all end a line."""

    __slots__ = ("_kept", "_limit", "_pieces", "_skip_lf")

    def __init__(self, limit: int = EVENT_BYTES) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._kept = 0
        self._skip_lf = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes.

        Raises:
            EngineError: a line is longer than the limit.
        """
        if self._skip_lf and data:
            self._skip_lf = False
            if data[0] == 10:
                data = data[1:]
        if b"\r" in data:
            self._skip_lf = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        last = lines.pop()
        if lines and self._pieces:
            self._check(self._kept + len(lines[0]))
            self._pieces.append(lines[0])
            lines[0] = b"".join(self._pieces)
            self._pieces.clear()
            self._kept = 0
        if last:
            self._pieces.append(last)
            self._kept += len(last)
            self._check(self._kept)
        return lines

    def rest(self) -> bytes:
        """What came after the last line end."""
        return b"".join(self._pieces)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise EngineError("transient", f"the node sent one line of more than {self._limit} bytes")


class SseDecoder:
    """The data of server-sent events. Comments keep a connection alive and are no events; names and ids are unused."""

    __slots__ = ("_cutter", "_data", "_kept", "_limit", "_started")

    def __init__(self, limit: int = EVENT_BYTES) -> None:
        self._limit = limit
        self._cutter = LineCutter(limit)
        self._data: list[bytes] = []
        self._kept = 0
        self._started = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that `data` completes."""
        events: list[bytes] = []
        for line in self._cutter.feed(data):
            if not self._started:
                self._started = True
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.startswith(b"data:"):
                self._add(line[6:] if line[5:6] == b" " else line[5:])
            elif not line and self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
                self._kept = 0
            elif line == b"data":
                self._add(b"")
        return events

    def close(self) -> list[bytes]:
        """An event without the blank line that should end it is no event."""
        return []

    def _add(self, line: bytes) -> None:
        self._kept += len(line) + 1
        if self._kept > self._limit:
            raise EngineError("transient", f"the node sent one event of more than {self._limit} bytes")
        self._data.append(line)


class NdjsonDecoder:
    """One JSON text a line; blank lines are skipped."""

    __slots__ = ("_cutter",)

    def __init__(self, limit: int = EVENT_BYTES) -> None:
        self._cutter = LineCutter(limit)

    def feed(self, data: bytes) -> list[bytes]:
        return [line for line in self._cutter.feed(data) if line.strip()]

    def close(self) -> list[bytes]:
        """The last line, which may lack its end."""
        rest = self._cutter.rest()
        return [rest] if rest.strip() else []

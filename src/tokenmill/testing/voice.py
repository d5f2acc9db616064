"""What both APIs share: the parts a reply is made of, before any fault and any framing."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol

import msgspec
from msgspec import Struct

from tokenmill.testing.answer import Said

#: What a piece is: the role before the text, text, reasoning, the reason of the end, the usage, the end mark.
OPENING, TEXT, REASONING, REASON, USAGE, MARK = "opening", "text", "reasoning", "reason", "usage", "mark"
#: Kind, seconds of work on the device before it is there, bytes.
Piece = tuple[str, float, bytes]

quoted = msgspec.json.Encoder().encode


class Timing(Struct):
    """Where the time of one answer went, in seconds; complete when the answer is."""

    load: float = 0.0
    read: float = 0.0
    write: float = 0.0
    total: float = 0.0


class Reply(Struct):
    """A reply to be framed. `pieces` may be made while they are sent."""

    status: int
    content_type: str
    pieces: Iterable[Piece]
    streamed: bool = False
    headers: list[tuple[str, str]] = []


class Voice(Protocol):
    """How one endpoint words an answer."""

    content_type: str

    def opening(self) -> bytes: ...
    def text(self, text: str) -> bytes: ...
    def reasoning(self, text: str) -> bytes: ...
    def comment(self) -> bytes:
        """Bytes that keep a stream alive without carrying text."""
        ...

    def ending(self, said: Said, timing: Timing, /) -> list[Piece]: ...
    def whole(self, said: Said, timing: Timing, /) -> bytes: ...
    def error(self, status: int, message: str, code: str | None, /) -> bytes: ...


def reply_json(value: object, status: int = 200, content_type: str = "application/json") -> Reply:
    """A short reply of JSON."""
    return reply_bytes(quoted(value), status, content_type)


def reply_bytes(body: bytes, status: int = 200, content_type: str = "application/json") -> Reply:
    return Reply(status, content_type, [(TEXT, 0.0, body)])


def now_text() -> str:
    """The time as both APIs of Ollama write it."""
    moment = time.time_ns()
    base = datetime.fromtimestamp(moment // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{base}.{moment % 1_000_000_000:09d}Z"

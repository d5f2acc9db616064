"""From a reply to bytes in time: heads, chunks, and the steps in which they are sent.

A step is `(work, wait, bytes)`: the bytes are sent after so many seconds of work on the device and so many of plain
waiting. What comes after the last step is the ending.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from http import HTTPStatus
from typing import Literal

from msgspec import Struct

from tokenmill.testing.voice import Reply

Step = tuple[float, float, bytes]
#: Keep the connection, close it in order, reset it, or leave it open and say nothing more.
Ending = Literal["keep", "close", "reset", "hang"]
LAST_CHUNK = b"0\r\n\r\n"


class Wire(Struct):
    """What is sent, when, and what happens then."""

    steps: Iterator[Step]
    ending: Ending = "keep"


@functools.lru_cache(maxsize=256)
def head(status: int, content_type: str, headers: tuple[tuple[str, str], ...] = (), length: int | None = None) -> bytes:
    """A response head; without a length the body is chunked."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    extra = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {content_type}\r\n{extra}{framing}\r\n\r\n".encode("latin-1")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def head_of(reply: Reply, length: int | None = None) -> bytes:
    return head(reply.status, reply.content_type, tuple(reply.headers), length)


def framed(reply: Reply) -> Iterator[Step]:
    """The steps of a reply in order: a chunk for each piece, or one body with its length."""
    return _chunked(reply) if reply.streamed else _whole(reply)


def body_of(reply: Reply) -> bytes:
    """All bytes of the body, made at once."""
    return b"".join(data for _, _, data in reply.pieces)


def _chunked(reply: Reply) -> Iterator[Step]:
    before = head_of(reply)
    for _, work, data in reply.pieces:
        if data:
            yield work, 0.0, before + b"%x\r\n%b\r\n" % (len(data), data)
            before = b""
        elif work:
            yield work, 0.0, b""
    yield 0.0, 0.0, before + LAST_CHUNK


def _whole(reply: Reply) -> Iterator[Step]:
    body = []
    for _, work, data in reply.pieces:
        if work:
            yield work, 0.0, b""
        body.append(data)
    whole = b"".join(body)
    yield 0.0, 0.0, head_of(reply, len(whole)) + whole

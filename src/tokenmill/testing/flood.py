"""Replies that are too much: made while they are sent, so that the server itself stays small."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator

from tokenmill.testing.voice import Reply, Voice
from tokenmill.testing.wire import LAST_CHUNK, Step, Wire, body_of, chunk, framed, head, head_of

BLOCK = 64 << 10
MEMBER = 16 << 20
GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
EMPTY_CHUNK = b"1\r\n\n\r\n"


def gzip_bomb(size: int, content_type: str) -> Wire:
    """`size` bytes of blanks, compressed about a thousandfold."""

    def steps() -> Iterator[Step]:
        yield 0.0, 0.0, head(200, content_type, (("content-encoding", "gzip"),)) + chunk(GZIP_HEAD)
        press, block, check = zlib.compressobj(9, zlib.DEFLATED, -15), b" " * MEMBER, 0
        for start in range(0, size, MEMBER):
            part = block[: size - start]
            check = zlib.crc32(part, check)
            data = press.compress(part) + press.flush(zlib.Z_SYNC_FLUSH)
            yield 0.0, 0.0, chunk(data)
        yield 0.0, 0.0, chunk(press.flush() + struct.pack("<II", check, size & 0xFFFFFFFF)) + LAST_CHUNK

    return Wire(steps())


def huge_body(size: int, voice: Voice, *, lines: bool) -> Wire:
    """A stream of `size` bytes: one line that doesn't end, or more and more text."""
    word = voice.text("more " * 200)
    first, rest = (chunk(word * (BLOCK // len(word))),) * 2 if lines else (chunk(word[:-20]), chunk(b"x" * BLOCK))
    blocks = itertools.chain([head(200, voice.content_type) + first], itertools.repeat(rest, size // BLOCK))
    return Wire(((0.0, 0.0, block) for block in blocks), "close")


def huge_header(size: int, reply: Reply) -> Wire:
    """A right reply behind one header line of `size` bytes."""

    def steps() -> Iterator[Step]:
        yield 0.0, 0.0, b"HTTP/1.1 200 OK\r\nx-filling: "
        for start in range(0, size, BLOCK):
            yield 0.0, 0.0, b"x" * min(BLOCK, size - start)
        whole = b"".join(data for _, _, data in framed(reply))
        yield 0.0, 0.0, whole[whole.index(b"\r\n") :]

    return Wire(steps())


def endless_headers(limit: int) -> Wire:
    """Header lines, one after the other, and never the blank line that ends them."""

    def steps() -> Iterator[Step]:
        yield 0.0, 0.0, b"HTTP/1.1 200 OK\r\n"
        for start in range(0, limit, 1000):
            lines = (b"x-filling-%d: and another\r\n" % number for number in range(start, min(limit, start + 1000)))
            yield 0.0, 0.0, b"".join(lines)

    return Wire(steps(), "close")


def crumbs(reply: Reply, more: int) -> Wire:
    """A right reply in chunks of one byte, after so many blank lines."""

    def steps() -> Iterator[Step]:
        yield 0.0, 0.0, head_of(reply)
        for start in range(0, more, 10_000):
            yield 0.0, 0.0, EMPTY_CHUNK * min(10_000, more - start)
        for _, work, data in reply.pieces:
            yield work, 0.0, b"".join(b"1\r\n%c\r\n" % byte for byte in data)
        yield 0.0, 0.0, LAST_CHUNK

    return Wire(steps())


def trickle(reply: Reply, size: int, gap: float) -> Wire:
    """A right reply, `size` bytes at a time."""

    def steps() -> Iterator[Step]:
        for work, wait, data in framed(reply):
            yield work, wait, b""
            for start in range(0, len(data), size):
                yield 0.0, gap, data[start : start + size]

    return Wire(steps())


def second_reply(reply: Reply) -> Wire:
    """A right reply and, right behind it, another that nobody asked for."""

    def steps() -> Iterator[Step]:
        unasked = body_of(Reply(200, "application/json", [("text", 0.0, b'{"error":"this answers nobody"}')]))
        yield from framed(reply)
        yield 0.0, 0.0, head(200, "application/json", (), len(unasked)) + unasked

    return Wire(steps())

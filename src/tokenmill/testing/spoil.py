"""What a fault does to the wire of a reply; a function of the fault and the reply, and of nothing else."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from email.utils import formatdate

import msgspec

from tokenmill.testing import flood
from tokenmill.testing.choose import draw
from tokenmill.testing.connection import Heard
from tokenmill.testing.fault import (
    AnyFault,
    Body,
    Close,
    Crumbs,
    EndlessHeaders,
    GzipBomb,
    HugeBody,
    HugeHeader,
    KeepAlive,
    Late,
    Point,
    Redirect,
    Reset,
    Silent,
    Status,
    Surplus,
    Trickle,
    Unfinished,
    WrongChunk,
    WrongLength,
)
from tokenmill.testing.voice import MARK, REASON, REASONING, TEXT, Piece, Reply, Voice, reply_bytes
from tokenmill.testing.wire import LAST_CHUNK, Ending, Step, Wire, body_of, chunk, framed, head_of

PAGE = b"<!DOCTYPE html><html><body><h1>It works!</h1></body></html>"
MESSAGES = {
    400: "The request could not be read.",
    401: "Incorrect API key provided.",
    403: "You are not allowed to use this model.",
    404: "The model does not exist.",
    413: "The request is too large.",
    422: "The request could not be processed.",
    429: "Rate limit reached, please slow down.",
    503: "The server is overloaded, please try again later.",
}


def at_once(fault: AnyFault, voice: Voice, heard: Heard, url: str) -> Wire | None:
    """The wire of a fault that needs no answer and holds no slot; None for the others."""
    match fault:
        case Status():
            return Wire(framed(status_reply(fault, voice, heard)))
        case Redirect(to=to, status=status):
            reply = reply_bytes(b"", status, "text/plain")
            reply.headers = [("location", (to or url).rstrip("/") + heard.path)]
            return Wire(framed(reply))
        case Body(what=what) if what != "error" or not fault.pieces:
            return Wire(framed(body_reply(fault, voice)))
    return None


def spoiled(fault: AnyFault | None, reply: Reply, voice: Voice, prompt: str) -> Wire:
    """The wire of a reply to which the fault happens."""
    match fault:
        case None:
            return Wire(framed(reply))
        case Silent():
            return Wire(iter(()), "hang")
        case KeepAlive(gap=gap):
            return kept_alive(gap, reply, voice)
        case Late(seconds=seconds, jitter=jitter):
            seconds *= 1 + jitter * (2 * draw(f"late:{prompt}") - 1)
            return Wire(itertools.chain([(0.0, seconds, b"")], framed(reply)))
        case Unfinished(missing=missing):
            return Wire(framed(without(reply, missing)))
        case Body(pieces=pieces):
            failed: Piece = (TEXT, 0.0, error_line(voice, "the engine stopped working"))
            return Wire(framed(replaced(reply, itertools.chain(first_texts(reply, pieces), [failed]))))
    return broken_framing(fault, reply) or flooded(fault, reply, voice) or Wire(framed(reply))


def broken_framing(fault: AnyFault, reply: Reply) -> Wire | None:
    """A reply whose bytes break the rules of HTTP, or that ends too early."""
    match fault:
        case Reset(at=at, pieces=pieces):
            return broken(reply, at, pieces, "reset")
        case Close(at=at, pieces=pieces):
            return broken(reply, at, pieces, "close")
        case WrongLength():
            return Wire(wrong_length(fault, reply), "close")
        case WrongChunk(size=size):
            return Wire(wrong_chunk(size, reply), "close")
        case Surplus():
            return flood.second_reply(reply)
    return None


def flooded(fault: AnyFault, reply: Reply, voice: Voice) -> Wire | None:
    """A reply that is too much, or in too small parts."""
    match fault:
        case Trickle(bytes=size, gap=gap):
            return flood.trickle(reply, size, gap)
        case Crumbs(more=more):
            return flood.crumbs(reply, more)
        case GzipBomb(size=size):
            return flood.gzip_bomb(size, reply.content_type)
        case HugeBody(size=size, lines=lines):
            return flood.huge_body(size, voice, lines=lines)
        case HugeHeader(size=size):
            return flood.huge_header(size, reply)
        case EndlessHeaders(limit=limit):
            return flood.endless_headers(limit)
    return None


def status_reply(fault: Status, voice: Voice, heard: Heard) -> Reply:
    said = fault.message or MESSAGES.get(fault.status, "The server had an error while processing the request.")
    if fault.echo_key:
        said += f" You sent: {heard.headers.get('authorization', 'no key')}"
    reply = reply_bytes(voice.error(fault.status, said, None), fault.status)
    if fault.retry_after is not None:
        reply.headers = [("retry-after", moment(fault.retry_after))]
    return reply


def moment(retry_after: str) -> str:
    """`date+5` is the date in 5 seconds; anything else stands as it is."""
    if not retry_after.startswith("date"):
        return retry_after
    return formatdate(time.time() + float(retry_after[4:] or 0), usegmt=True)


def body_reply(fault: Body, voice: Voice) -> Reply:
    if fault.what == "html":
        return reply_bytes(PAGE, 200, "text/html")
    if fault.what == "empty":
        return reply_bytes(b"", 200)
    if fault.what == "error":
        return reply_bytes(error_line(voice, "the engine could not be started"), 200, voice.content_type)
    if fault.what == "cut_character":
        return reply_bytes(voice.text("caf\u00e9").partition("\u00e9".encode())[0] + b"\xc3", 200, voice.content_type)
    return reply_bytes(fault.text.encode(), 200)


def error_line(voice: Voice, message: str) -> bytes:
    """An error object as it comes within a stream."""
    said = voice.error(500, message, None)
    return b"data: " + said + b"\n\n" if "event-stream" in voice.content_type else said + b"\n"


def kept_alive(gap: float, reply: Reply, voice: Voice) -> Wire:
    """Signs of life, and never a word."""
    sign = chunk(voice.comment() if reply.streamed else b" ")
    signs = ((0.0, gap, sign) for _ in itertools.count())
    return Wire(itertools.chain([(0.0, 0.0, head_of(reply))], signs))


def replaced(reply: Reply, pieces: Iterator[Piece]) -> Reply:
    return msgspec.structs.replace(reply, pieces=pieces)


def first_texts(reply: Reply, count: int) -> Iterator[Piece]:
    """The pieces up to the `count`-th of text."""
    for piece in reply.pieces:
        if piece[0] in (REASON, MARK) or count < 1:
            return
        yield piece
        count -= piece[0] in (TEXT, REASONING)


def without(reply: Reply, missing: str) -> Reply:
    """The reply without its end mark, the reason of its end, or both; a reply in one piece loses its last part."""
    if not reply.streamed:
        body = body_of(reply)
        return replaced(reply, iter([(TEXT, 0.0, body[: -len(body) // 4])]))
    dropped = {"mark": (MARK,), "reason": (REASON,), "both": (MARK, REASON)}[missing]
    native = "ndjson" in reply.content_type  # there, both are one line
    dropped = (MARK, REASON) if native else dropped
    return replaced(reply, (piece for piece in reply.pieces if piece[0] not in dropped))


def broken(reply: Reply, at: Point, pieces: int, ending: Ending) -> Wire:
    """The reply up to a point, and then an end nobody agreed to."""
    if at == "head":
        return Wire(iter([(0.0, 0.0, head_of(reply)[:40])]), ending)
    if not reply.streamed:
        return Wire(cut_body(reply, 0.5 if at == "body" else 1.0), ending)
    count = pieces if at == "body" else 1 << 62
    steps = ((work, 0.0, chunk(data)) for _, work, data in first_texts(reply, count) if data)
    return Wire(itertools.chain([(0.0, 0.0, head_of(reply))], steps), ending)


def cut_body(reply: Reply, share: float) -> Iterator[Step]:
    """A body in one piece, of which the last part, or the last byte, never comes."""
    body = b""
    for _, work, data in reply.pieces:
        if work:
            yield work, 0.0, b""
        body += data
    kept = min(len(body) - 1, int(len(body) * share))
    yield 0.0, 0.0, head_of(reply, len(body)) + body[:kept]


def wrong_length(fault: WrongLength, reply: Reply) -> Iterator[Step]:
    """The whole body at once, under a length that isn't its own."""
    body = b""
    for _, work, data in reply.pieces:
        if work:
            yield work, 0.0, b""
        body += data
    lengths = {
        "short": [b"%d" % max(0, len(body) - fault.by)],
        "long": [b"%d" % (len(body) + fault.by)],
        "negative": [b"-%d" % fault.by],
        "words": [b"many"],
        "two": [b"%d" % len(body), b"%d" % (len(body) + fault.by)],
    }[fault.length]
    right = b"content-length: %d\r\n" % len(body)
    wrong = b"".join(b"content-length: " + length + b"\r\n" for length in lengths)
    yield 0.0, 0.0, head_of(reply, len(body)).replace(right, wrong) + body


def wrong_chunk(size: str, reply: Reply) -> Iterator[Step]:
    """A chunked body whose second chunk announces another size than it has."""
    pieces: Iterator[Piece] = iter(reply.pieces)
    if not reply.streamed:
        body = body_of(reply)
        pieces = iter([(TEXT, 0.0, body[:20]), (TEXT, 0.0, body[20:])])
    yield 0.0, 0.0, head_of(reply)
    sent = 0
    for _, work, data in pieces:
        if not data:
            continue
        sent += 1
        sizes = {"words": b"many", "negative": b"-5", "huge": b"f" * 15, "short": b"%x" % (len(data) // 2)}
        wrong = sizes.get(size, b"%x" % (len(data) + 7))
        yield work, 0.0, chunk(data) if sent != 2 else wrong + b"\r\n" + data + b"\r\n"
    yield 0.0, 0.0, LAST_CHUNK

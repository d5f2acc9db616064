"""What the driver's process and a worker say to each other, and how it is framed.

A frame is a length of four bytes, big-endian, then one msgpack value. Every message is a typed struct named by its
tag; nothing received can name code to run, which is why this isn't pickle. Whatever doesn't fit (too long, cut off,
not msgpack, another shape) is a `WireError`, and the connection is over: after a bad frame nothing can be trusted.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from tokenmill.request import Request

#: Changes whenever a message changes its meaning; both ends must have the same.
PROTOCOL = 3
#: Bytes of the longest frame either side accepts; a prompt beyond it exceeds any context that could be served.
MAX_FRAME = 32 * 1024 * 1024
HEADER = 4
#: Who divides a model among ranks: our own engine, or DeepSpeed's AutoTP.
NATIVE, DEEPSPEED = "native", "deepspeed"
TP_ENGINES = (NATIVE, DEEPSPEED)
#: Where a worker finds its end of the socket and the token of its caller.
SOCKET_VARIABLE = "TOKENMILL_WORKER_SOCKET"
TOKEN_VARIABLE = "TOKENMILL_WORKER_TOKEN"


class WireError(Exception):
    """A frame that can't be sent or understood."""


class Hello(Struct, frozen=True, tag="hello"):
    """First frame to a worker: it obeys only a caller that knows the token it was started with."""

    token: str
    protocol: int = PROTOCOL


class Load(Struct, frozen=True, tag="load", kw_only=True):
    """Second frame to a worker: what to load, every choice already made, so that a restart is the same again.

    `folder` is a local path, `digest` what it had when the choices were made; `kv_memory` is in bytes. `tp`: ranks that
    share the model, each with `threads` and `kv_memory` of its own; `tp_engine`: which of `TP_ENGINES` divides it.
    """

    folder: str
    digest: str
    dtype: str
    device: str
    threads: int
    slots: int
    context: int
    kv_memory: int
    tp: int = 1
    tp_engine: str = NATIVE


class LoadEmbedder(Struct, frozen=True, tag="load-embedder", kw_only=True):
    """Second frame to a worker that makes vectors, in place of `Load`; the same of a sentence-embedding model."""

    folder: str
    digest: str
    device: str
    threads: int


class Submit(Struct, frozen=True, tag="submit"):
    """Answer this request; `key` names it on this connection and is never used twice."""

    key: int
    request: Request
    seed: int


class Embed(Struct, frozen=True, tag="embed"):
    """Make a vector of each text; `key` as in `Submit`."""

    key: int
    texts: tuple[str, ...]


class Cancel(Struct, frozen=True, tag="cancel"):
    """Nobody waits for this key any more; unknown and finished keys are fine."""

    key: int


class Beat(Struct, frozen=True, tag="beat"):
    """Nothing but a sign of life; over TCP both ends send one a second, as a cut link says nothing of itself."""


class Leave(Struct, frozen=True, tag="leave"):
    """The run needs this worker no more; a connection that ends without it was lost."""


class Loaded(Struct, frozen=True, tag="loaded"):
    """The worker answers requests from now on."""


class LoadFailed(Struct, frozen=True, tag="load-failed"):
    """The worker can't load and ends; `message` is one line for the user."""

    message: str


class Piece(Struct, frozen=True, array_like=True):
    """What one request got from one step; `finish` is empty until its last piece."""

    key: int
    text: str
    tokens: int
    finish: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0


class Stepped(Struct, frozen=True, tag="stepped"):
    """All of one forward pass of `width` sequences."""

    width: int
    pieces: tuple[Piece, ...]


class Embedded(Struct, frozen=True, tag="embedded"):
    """The vectors of one `Embed`, text after text, as little-endian float32."""

    key: int
    vectors: bytes


class Refused(Struct, frozen=True, tag="refused"):
    """This request can't be answered; `kind` is a failure class of `tokenmill.event`."""

    key: int
    kind: str
    message: str


ToWorker = Hello | Load | LoadEmbedder | Submit | Embed | Cancel | Beat | Leave
FromWorker = Loaded | LoadFailed | Stepped | Embedded | Refused | Beat
_Message = TypeVar("_Message")

_ENCODER = msgspec.msgpack.Encoder()
_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """The whole frame; a message too long or with text that isn't Unicode is a `WireError`."""
    try:
        body = _ENCODER.encode(message)
    except UnicodeEncodeError as error:
        raise WireError(f"text that isn't Unicode: {error.reason} at character {error.start}") from error
    except OverflowError as error:
        raise WireError("a number of more than 64 bits") from error
    if len(body) > MAX_FRAME:
        raise WireError(f"{len(body)} bytes in one message, the limit is {MAX_FRAME}")
    return len(body).to_bytes(HEADER, "big") + body


def to_worker(body: bytes) -> ToWorker:
    """The message in a frame's body, as a worker reads it."""
    return _decode(_TO_WORKER, body)


def from_worker(body: bytes) -> FromWorker:
    """The message in a frame's body, as the driver's process reads it."""
    return _decode(_FROM_WORKER, body)


def _decode(decoder: msgspec.msgpack.Decoder[_Message], body: bytes) -> _Message:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError) as error:
        raise WireError(f"a message that can't be read: {error}") from error


class Frames:
    """Cuts a stream of bytes into the bodies of frames, however the bytes were split on the way.

    `limit` are the bytes of the longest frame that is taken; it holds from the next frame on where it is changed.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are complete now; a length beyond the limit is refused before its bytes are kept."""
        self._buffer += data
        bodies = []
        start = 0
        while len(self._buffer) - start >= HEADER:
            length = int.from_bytes(self._buffer[start : start + HEADER], "big")
            if length > self.limit:
                raise WireError(f"a frame of {length} bytes, the limit is {self.limit}")
            end = start + HEADER + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[start + HEADER : end]))
            start = end
        del self._buffer[:start]
        return bodies

    def finish(self) -> None:
        """The stream ended; half a frame left over is a `WireError`."""
        if self._buffer:
            raise WireError(f"the stream ended {len(self._buffer)} bytes into a frame")

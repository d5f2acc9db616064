"""One connection: h11 reads requests, bytes go out as they are given, right or wrong.

A protocol rather than streams: a request costs no task, and the loss of the connection is told at once, which is how a
cancelled request is noticed. Requests that arrive while one is answered wait in a buffer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Protocol, cast

try:
    import h11
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("tokenmill.testing needs h11: pip install 'tokenmill[testing]'", name="h11") from error
from msgspec import Struct

from tokenmill.testing.voice import Reply
from tokenmill.testing.wire import Ending, framed

MOST_HEAD = 64 << 10
MOST_BODY = 64 << 20
WRITE_AT_ONCE = 64 << 10
ABORT = struct.pack("ii", 1, 0)


class Heard(Struct):
    """A request as it came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


class Handler(Protocol):
    """Whoever answers the requests of a listener."""

    def opened(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...
    def handle(self, connection: Connection, heard: Heard) -> None: ...


class Sender(Protocol):
    """Whatever is being sent on a connection."""

    def resume(self) -> None: ...
    def abandon(self) -> None: ...


class Connection(asyncio.Protocol):
    """Reads one request after the other and lets the handler answer."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.sender: Sender | None = None
        self._is_paused = False
        self._transport: asyncio.Transport | None = None
        self._parser: h11.Connection | None = None
        self._buffer = b""
        self._request: h11.Request | None = None
        self._body: list[bytes] = []
        self._length = 0
        self._busy = False
        self._keep = True
        self._wants_head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.handler.opened(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self.handler.closed(self)
        if self.sender is not None:
            self.sender.abandon()

    def data_received(self, data: bytes) -> None:
        if self._busy:
            self._buffer += data
            if len(self._buffer) > MOST_BODY:
                self.end("close")
            return
        self._feed(data)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be written for now, or ever."""
        return self._is_paused or self._transport is None or self._transport.is_closing()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        # Not at once: a transport that is closed while it calls this reports its loss twice (asyncio of Python 3.11).
        asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        self._is_paused = False
        if self.sender is not None:
            self.sender.resume()

    def write(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    def reply(self, reply: Reply) -> None:
        """Sends a reply that needs no time."""
        data = b"".join(data for _, _, data in framed(reply))
        self.write(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if self._wants_head else data)
        self.end("keep")

    def end(self, ending: Ending) -> None:
        """What was sent is all; the next request may come, if the connection is kept."""
        self.sender = None
        if self._transport is None or ending == "hang":
            return
        if ending == "reset":
            self.reset()
        elif ending == "close" or not self._keep:
            self._transport.close()
        else:
            self._busy = False
            if self._buffer:
                waiting, self._buffer = self._buffer, b""
                self._feed(waiting)

    def reset(self) -> None:
        """Ends the connection with a reset instead of an orderly close."""
        if self._transport is not None:
            found = self._transport.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            self._transport.abort()

    def _feed(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD)
        try:
            parser.receive_data(data)
            while True:
                event = parser.next_event()
                if isinstance(event, h11.Request):
                    self._begin(event, parser)
                elif isinstance(event, h11.Data):
                    self._length += len(event.data)
                    if self._length > MOST_BODY:
                        self._refuse(413)
                        return
                    self._body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self._complete(parser)
                    return
                else:
                    return
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)

    def _begin(self, request: h11.Request, parser: h11.Connection) -> None:
        self._request, self._body, self._length = request, [], 0
        if parser.they_are_waiting_for_100_continue:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _complete(self, parser: h11.Connection) -> None:
        request = self._request
        assert request is not None, "a body ends only after its head"
        self._buffer = bytes(parser.trailing_data[0])
        self._parser = None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        self._keep = request.http_version == b"1.1" and headers.get("connection", "").lower() != "close"
        self._busy, self._wants_head = True, request.method == b"HEAD"
        path, _, query = request.target.decode("latin-1").partition("?")
        self.handler.handle(self, Heard(request.method.decode(), path, query, headers, b"".join(self._body)))

    def _refuse(self, status: int) -> None:
        self.write(b"HTTP/1.1 %d Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        self.end("close")

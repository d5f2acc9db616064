"""The listening socket of a server and its connections; it can go down and come back at the same address."""

from __future__ import annotations

import asyncio
import socket
import ssl

from tokenmill.errors import UsageError
from tokenmill.testing.behaviour import Behaviour
from tokenmill.testing.connection import Connection, Handler

BACKLOG = 1024


class Listener:
    """While it is down the port stays bound but not listening, so that nobody else takes it and clients are refused."""

    def __init__(self, handler: Handler, address: str, port: int, security: ssl.SSLContext | None = None) -> None:
        self.connections: set[Connection] = set()
        self._handler = handler
        self._security = security
        self._socket = bound(address, port)
        self._port: int = self._socket.getsockname()[1]
        self._address = address
        self._server: asyncio.Server | None = None
        self._changes: set[asyncio.Task[None]] = set()
        self._is_wanted = True
        self._return: asyncio.TimerHandle | None = None

    @property
    def url(self) -> str:
        shown = f"[{self._address}]" if ":" in self._address else self._address
        return f"{'https' if self._security else 'http'}://{shown}:{self._port}"

    @property
    def is_up(self) -> bool:
        return self._server is not None

    async def open(self) -> None:
        if self._server is None and self._is_wanted:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: Connection(self._handler), sock=self._socket, backlog=BACKLOG, ssl=self._security
            )

    def go_up(self) -> None:
        self._is_wanted = True
        self._cancel_return()
        task = asyncio.get_running_loop().create_task(self.open())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    def go_down(self, seconds: float | None = None) -> None:
        """Resets all connections and refuses new ones, for so many seconds or until told otherwise."""
        self._is_wanted = False
        if self._server is not None:
            self._server.close()
            self._server = None
            self._socket = bound(self._address, self._port)
        for connection in list(self.connections):
            connection.reset()
        self._cancel_return()
        if seconds is not None:
            self._return = asyncio.get_running_loop().call_later(seconds, self.go_up)

    def _cancel_return(self) -> None:
        if self._return is not None:
            self._return.cancel()
            self._return = None


def bound(address: str, port: int) -> socket.socket:
    """A socket bound but not listening: connections to it are refused."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's delay off; else pieces of an answer wait for each other.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((address, port))
    except OSError as error:
        found.close()
        raise UsageError(f"address {address} port {port}: {error.strerror}; give port 0 for a free one") from error
    return found


def security_of(behaviour: Behaviour) -> ssl.SSLContext | None:
    """TLS with the certificate of the behaviour, valid or not."""
    if behaviour.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(behaviour.certificate, behaviour.private_key)
    except OSError as error:
        raise UsageError(f"certificate {behaviour.certificate}: {error}; give PEM files") from error
    return context

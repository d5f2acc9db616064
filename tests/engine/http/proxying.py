"""A small real proxy: tunnels by CONNECT, and passes requests for http URLs on; it remembers all it could read."""

from __future__ import annotations

import base64
import socket
import socketserver
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Listens on a free port of loopback. `login`, as `user:password`, is asked for if given; `refusal` answers all."""

    def __init__(self, login: str = "", refusal: str = "") -> None:
        self.heads: list[bytes] = []
        self.read = b""
        self._login = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
        self._refusal = refusal
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                proxy.serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.place}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, client: socket.socket) -> None:
        """One connection of a client: one tunnel, or one request."""
        try:
            head, rest = self._head(client)
            method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
            if self._login and f"Proxy-Authorization: {self._login}".encode() not in head:
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            elif self._refusal:
                client.sendall(f"HTTP/1.1 {self._refusal}\r\nContent-Length: 0\r\n\r\n".encode())
            elif method == "CONNECT":
                host, _, port = target.rpartition(":")
                with socket.create_connection((host, int(port))) as server:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self._join(client, server)
            else:
                url = urlsplit(target)
                with socket.create_connection((url.hostname, url.port or 80)) as server:
                    server.sendall(_passed_on(head, target, url.path) + rest)
                    self._join(client, server)
        except (OSError, ValueError):
            with suppress(OSError):  # closing alone tells the client nothing while another thread reads from it
                client.shutdown(socket.SHUT_RDWR)
            client.close()

    def _head(self, client: socket.socket) -> tuple[bytes, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            more = client.recv(65536)
            if not more:
                raise OSError("the client left")
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        self.heads.append(head)
        self.read += data
        return head, rest

    def _join(self, client: socket.socket, server: socket.socket) -> None:
        """Passes bytes on both ways until the server has no more."""

        def up() -> None:
            try:
                while data := client.recv(65536):
                    self.read += data
                    server.sendall(data)
                server.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        threading.Thread(target=up, daemon=True).start()
        while data := server.recv(65536):
            client.sendall(data)
        client.shutdown(socket.SHUT_RDWR)


def _passed_on(head: bytes, target: str, path: str) -> bytes:
    """The head for the server itself: its path alone, without what is the proxy's, for one request."""
    lines = head.replace(target.encode(), path.encode(), 1).split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith((b"proxy-", b"connection:"))]
    return b"\r\n".join([*kept, b"Connection: close"]) + b"\r\n\r\n"

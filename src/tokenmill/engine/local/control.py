"""How the ranks of a tensor parallel group talk beside their tensors: one socket between the lead and each follower.

Both ends prove that they know the group's secret before anything is obeyed, and neither ever sends it. A thread reads
each socket, so that an end that vanished ends this process at once, whatever the main thread is doing: without it, a
rank inside a collective could wait for the dead for as long as the collective's own limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import queue
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from tokenmill.engine.local.wire import HEADER, MAX_FRAME, Frames, WireError

#: Ends the process, or starts it over; called from any thread with the cause.
Leave = Callable[[str], NoReturn]

#: Seconds one handshake may take.
HANDSHAKE = 10.0
#: Seconds after which the kernel gives up a peer that acknowledges nothing, as when a cable is cut.
SILENCE = 9
_NONCE = 32
_RANK = struct.Struct(">I")
_PROOF = hashlib.sha256().digest_size


class Stranger(Exception):
    """The other end doesn't know the secret, or isn't one of the group."""


class Peer:
    """The socket to one other rank; what it sends is read by a thread and waits in `inbox`."""

    def __init__(self, connection: socket.socket, name: str, leave: Leave) -> None:
        self._connection = connection
        self._name = name
        self._leave = leave
        self._inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._closing = False
        _notice_silence(connection)
        threading.Thread(target=self._read, name=f"reads {name}", daemon=True).start()

    @property
    def own_address(self) -> str:
        """The address of this host by which the other rank reaches it."""
        return str(self._connection.getsockname()[0])

    def hear(self) -> bytes:
        """The next message; waits for it."""
        return self._inbox.get()

    def tell(self, body: bytes) -> None:
        """Sends one message."""
        assert len(body) <= MAX_FRAME, "a message to a rank is never longer than the one that caused it"
        try:
            with self._sending:
                self._connection.sendall(len(body).to_bytes(HEADER, "big") + body)
        except OSError as error:
            self._leave(f"{self._name} of the tensor parallel group is gone ({error.strerror or error})")

    def close(self) -> None:
        """Ends the connection from this side, and thereby the other rank."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        frames = Frames()
        cause = "it closed its connection"
        try:
            while data := self._connection.recv(1 << 16):
                for body in frames.feed(data):
                    self._inbox.put(body)
        except WireError as error:
            cause = f"it sent {error}"
        except OSError as error:
            cause = error.strerror or str(error)
        self._connection.close()
        if not self._closing:
            self._leave(f"{self._name} of the tensor parallel group is gone ({cause})")


def welcome(listener: socket.socket, secret: bytes, size: int, deadline: float) -> tuple[dict[int, socket.socket], str]:
    """Waits for the followers, ranks 1 to `size`, not included; their sockets by rank, and this group's name.

    A stranger is shown out and costs nothing but its turn. Raises `TimeoutError` with the ranks that are missing.
    """
    name = secrets.token_hex(8)
    found: dict[int, socket.socket] = {}
    while len(found) < size - 1:
        listener.settimeout(max(0.0, deadline - time.monotonic()))
        try:
            connection, _ = listener.accept()
        except (TimeoutError, BlockingIOError) as error:
            missing = ", ".join(str(rank) for rank in range(1, size) if rank not in found)
            for connection in found.values():
                connection.close()
            raise TimeoutError(missing) from error
        try:
            found[_let_in(connection, secret, size, found, name)] = connection
        except (OSError, Stranger):
            connection.close()
    return found, name


def _let_in(connection: socket.socket, secret: bytes, size: int, found: Mapping[int, socket.socket], name: str) -> int:
    connection.settimeout(HANDSHAKE)
    theirs = _receive(connection, _NONCE)
    ours = secrets.token_bytes(_NONCE)
    connection.sendall(_prove(secret, b"lead", theirs, name.encode()) + ours + name.encode())
    stated = _receive(connection, _RANK.size)
    if not hmac.compare_digest(_receive(connection, _PROOF), _prove(secret, b"follower", ours, stated)):
        raise Stranger("it doesn't know the secret of this group")
    (rank,) = _RANK.unpack(stated)
    if not 1 <= rank < size or rank in found:
        raise Stranger(f"rank {rank} has no place here")
    connection.settimeout(None)
    return int(rank)


def introduce(connection: socket.socket, secret: bytes, rank: int) -> str:
    """A follower's side of the handshake; the name of the group. Raises `Stranger` or `OSError`."""
    connection.settimeout(HANDSHAKE)
    ours = secrets.token_bytes(_NONCE)
    connection.sendall(ours)
    proof = _receive(connection, _PROOF)
    theirs = _receive(connection, _NONCE)
    name = _receive(connection, 16)
    if not hmac.compare_digest(proof, _prove(secret, b"lead", ours, name)):
        raise Stranger("the lead doesn't know the secret of this group")
    stated = _RANK.pack(rank)
    connection.sendall(stated + _prove(secret, b"follower", theirs, stated))
    connection.settimeout(None)
    return name.decode("ascii", errors="replace")


def _prove(secret: bytes, role: bytes, nonce: bytes, said: bytes) -> bytes:
    return hmac.digest(secret, b"\0".join((role, nonce, said)), "sha256")


def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        more = connection.recv(size - len(received))
        if not more:
            raise Stranger("it hung up during the greeting")
        received += more
    return received


def _notice_silence(connection: socket.socket) -> None:
    """The kernel asks a quiet peer whether it is there; each option only where the system has it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wanted = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": SILENCE * 1000}
    for name, value in wanted.items():
        if (option := getattr(socket, name, None)) is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, option, value)

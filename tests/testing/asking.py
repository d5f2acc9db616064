"""Asking a server the plain way: by http.client where the reply is HTTP, by a socket where it may not be."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from tokenmill.testing import FaultServer, State

PATIENCE = 20.0
MODEL = "llama3.2"
TRIES = 20_000


def chat(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], **fields}


def ask(url: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one reply."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)) as connection:
        data = None if body is None else json.dumps(body)
        connection.request("GET" if data is None else "POST", path, data, headers)
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()


def ask_json(url: str, path: str, body: Any = None) -> Any:
    return json.loads(ask(url, path, body)[2])


def native_lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines() if line.strip()]


def native_text(body: bytes) -> str:
    return "".join(line.get("message", {}).get("content", "") for line in native_lines(body))


def events(body: bytes) -> list[Any]:
    """The data of server-sent events; `[DONE]` stays text."""
    datas = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


def event_text(body: bytes) -> str:
    found = [event for event in events(body) if event != "[DONE]" and event["choices"]]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in found)


def send(url: str, path: str, body: Any, *, close: bool = True) -> socket.socket:
    """An open connection on which a request was sent."""
    place = urlsplit(url)
    sock = socket.create_connection((place.hostname, place.port), timeout=PATIENCE)
    data = json.dumps(body).encode()
    ending = "connection: close\r\n" if close else ""
    sock.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\n{ending}content-length: {len(data)}\r\n\r\n".encode() + data)
    return sock


def read_until(sock: socket.socket, mark: bytes) -> bytes:
    """What comes up to and with the mark."""
    got = b""
    while mark not in got:
        part = sock.recv(65536)
        assert part, f"the end came before {mark!r}: {got!r}"
        got += part
    return got


def raw(url: str, path: str, body: Any, most: int = 1 << 22) -> tuple[bytes, str]:
    """All bytes of a reply and how it ended: `closed`, `reset`, or `enough` when there were more than `most`."""
    got = bytearray()
    with send(url, path, body) as sock:
        try:
            while part := sock.recv(65536):
                got += part
                if len(got) > most:
                    return bytes(got), "enough"
        except ConnectionResetError:
            return bytes(got), "reset"
    return bytes(got), "closed"


def until(server: FaultServer, holds: Callable[[State], bool], number: int = 0) -> State:
    """The first state of the server for which it holds."""
    for _ in range(TRIES):
        state = server.state(number)
        if holds(state):
            return state
    raise AssertionError(f"it never came so far: {server.state(number)}")

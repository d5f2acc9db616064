"""A server that says exactly the bytes it is given, for what no server of good will sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec

MODELS = b'{"object":"list","data":[{"id":"m","object":"model"}]}'
DONE = b"data: [DONE]\n\n"


def chat_answer(text: str, finish: str | None = "stop") -> bytes:
    """One answer as server-sent events."""
    parts = ({"content": text}, None), ({}, finish)
    events = [
        msgspec.json.encode({"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        for delta, reason in parts
    ]
    usage = b'{"id":"1","choices":[],"usage":{"prompt_tokens":4,"completion_tokens":1}}'
    return b"".join(b"data: " + event + b"\n\n" for event in (*events, usage)) + DONE


def framed(body: bytes, kind: str = "text/event-stream", extra: str = "") -> bytes:
    """A body as a whole 200."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


class RawServer:
    """Speaks enough of OpenAI's API to be opened, and answers the chats in order with the bytes given for each.

    After those it answers `right`. `echo` makes the name of an answer from that of its request; the next `hang_up`
    requests are read and their connections closed. With `hang_up_after` a connection is closed after the given bytes.
    """

    def __init__(self, *answers: list[bytes]) -> None:
        self._answers = list(answers)
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.echo: Callable[[str], str] | None = None
        self.hang_up = 0
        self.hang_up_after = False
        self.connections = 0
        self.heads: list[bytes] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def say(self, data: bytes) -> None:
        """Sends bytes that nobody asked for on every open connection."""
        for writer in self._writers:
            if not writer.is_closing():
                writer.write(data)
                await writer.drain()

    async def heard_nothing(self) -> None:
        """Gives the other side its turns to notice what was said."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
                lowered = {name.lower(): value for name, value in fields.items()}
                await reader.readexactly(int(lowered.get("content-length", 0)))
                if self.hang_up:
                    self.hang_up -= 1
                    break
                is_last = self.hang_up_after and head.startswith(b"POST") and bool(self._answers)
                for data in self._reply(head, lowered):
                    writer.write(data)
                    await writer.drain()
                if is_last:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    def _reply(self, head: bytes, fields: dict[str, str]) -> list[bytes]:
        if head.startswith(b"GET"):
            return [framed(MODELS, "application/json")]
        if self._answers:
            return self._answers.pop(0)
        name = fields.get("x-request-id", "")
        extra = f"X-Request-Id: {self.echo(name)}\r\n" if self.echo is not None else ""
        return [framed(chat_answer("right"), extra=extra)]

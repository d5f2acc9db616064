"""Honest mode: a real engine of ours stands behind the HTTP, and its answers are passed on as they come.

A request with a fault is answered by the same engine, but whole, so that the fault can be done to the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from tokenmill.errors import EngineError
from tokenmill.request import Chunk
from tokenmill.testing.answer import Said
from tokenmill.testing.ask import Ask
from tokenmill.testing.connection import Connection
from tokenmill.testing.spoil import error_line
from tokenmill.testing.voice import Reply, Timing, Voice, reply_bytes
from tokenmill.testing.wire import LAST_CHUNK, chunk, framed, head_of

if TYPE_CHECKING:
    from tokenmill.testing.honest import Honest


class Relay:
    """Passes one answer of the engine on; `over` is told once, with the tokens of the
    answer and whether the client left before the end.

    `finish` gets the whole answer instead, if a fault is to be done to it.
    """

    def __init__(
        self, connection: Connection, voice: Voice, ask: Ask, timing: Timing, over: Callable[[int, bool], None]
    ) -> None:
        self._connection = connection
        self._voice = voice
        self._ask = ask
        self._timing = timing
        self._over = over
        self._task: asyncio.Task[None] | None = None
        self._has_begun = self._is_over = False

    def play(self, honest: Honest, finish: Callable[[Said], None] | None) -> None:
        self._task = asyncio.get_running_loop().create_task(self._pass_on(honest, finish))

    def resume(self) -> None:
        """What the engine says is small; it needs no pause."""

    def abandon(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._end(cancelled=True)

    def _end(self, *, cancelled: bool, tokens: int = 0) -> None:
        if not self._is_over:
            self._is_over = True
            self._over(tokens, cancelled)

    async def _pass_on(self, honest: Honest, finish: Callable[[Said], None] | None) -> None:
        begun = time.monotonic()
        pieces: list[tuple[str, int]] = []
        try:
            async with aclosing(honest.generate(self._ask)) as parts:
                async for part in parts:
                    if isinstance(part, Chunk):
                        self._timing.read = self._timing.read or time.monotonic() - begun
                        pieces.append((part.text, part.tokens))
                        if part.text and self._ask.stream and finish is None:
                            self._say(part.text)
                        continue
                    self._timing.total = time.monotonic() - begun
                    self._timing.write = self._timing.total - self._timing.read
                    read = part.usage.prompt_tokens
                    said = Said(pieces=tuple(pieces), reason=part.finish_reason, prompt_tokens=read)
                    if finish is not None:
                        finish(said)
                        return
                    self._finish(said)
        except EngineError as error:
            self._fail(error)

    def _say(self, text: str) -> None:
        out = b""
        if not self._has_begun:
            self._has_begun = True
            opening = self._voice.opening()
            out = head_of(Reply(200, self._voice.content_type, ())) + (chunk(opening) if opening else b"")
        self._connection.write(out + chunk(self._voice.text(text)))

    def _finish(self, said: Said) -> None:
        self._end(cancelled=False, tokens=said.tokens)
        if self._ask.stream:
            if not self._has_begun:
                self._say("")
            last = b"".join(chunk(data) for _, _, data in self._voice.ending(said, self._timing) if data)
            self._connection.write(last + LAST_CHUNK)
            self._connection.end("keep")
        else:
            self._connection.reply(reply_bytes(self._voice.whole(said, self._timing)))

    def _fail(self, error: EngineError) -> None:
        self._end(cancelled=False)
        status = 400 if error.kind in ("too_long", "refused") else 500
        if self._has_begun:
            self._connection.write(chunk(error_line(self._voice, error.message)) + LAST_CHUNK)
            self._connection.end("keep")
        else:
            reply = reply_bytes(self._voice.error(status, error.message, None), status)
            self._connection.write(b"".join(data for _, _, data in framed(reply)))
            self._connection.end("keep")

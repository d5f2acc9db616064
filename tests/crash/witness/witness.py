"""An engine that notes what it was asked, beside the record: `witness:KIND:TARGET` wraps the engine `KIND:TARGET`.

Each request adds a line to the file that WITNESS_LOG names when it arrives and another when it is answered. A line is
one system call, so it is there after a kill, and it is `writev`, which no injected fault of a story strikes.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from importlib.metadata import entry_points
from typing import cast

from tokenmill.cluster import EngineFacts, EngineOptions, Node
from tokenmill.engine import Engine
from tokenmill.request import Chunk, Completion, Request


class Witness:
    """Passes everything on, and writes down `sent ID` and `told ID`."""

    def __init__(self, node: Node, options: EngineOptions) -> None:
        kind, _, target = node.target.partition(":")
        (point,) = entry_points(group="tokenmill.engines", name=kind)
        self._inner: Engine = point.load()(Node(name=node.name, engine=kind, target=target), options)
        self._log = os.open(os.environ["WITNESS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def survey(self) -> EngineFacts:
        return self._inner.survey()

    def count(self, request: Request) -> int:
        return self._inner.count(request)

    async def open(self) -> EngineFacts:
        return await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def generate(self, request: Request) -> AsyncIterator[Chunk | Completion]:
        self._note("sent", request)
        parts = cast(AsyncGenerator[Chunk | Completion, None], self._inner.generate(request))
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Completion):
                    self._note("told", request)
                yield part

    def _note(self, word: str, request: Request) -> None:
        os.writev(self._log, [f"{word} {request.custom_id}\n".encode()])

"""An engine that brings its process down in the way it is told: `awkward:HOW`, with HOW one of `WAYS`.

Each time it is opened, `AWKWARD_LOG` gets a line with the number of its process. With a folder named `mended` beside
the log it behaves.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from tokenmill.cluster import EngineFacts, EngineOptions, Node
from tokenmill.engine.scripted import ScriptedEngine
from tokenmill.request import Chunk, Completion, Request

MIB = 1 << 20


class Awkward:
    """Does it at the first request, and answers those that follow as a script without a file does."""

    def __init__(self, node: Node, options: EngineOptions) -> None:
        self._inner = ScriptedEngine(Node(name=node.name, engine="scripted", target=""), options)
        self._log = Path(os.environ["AWKWARD_LOG"])
        self._how = "fine" if (self._log.parent / "mended").exists() else node.target

    def survey(self) -> EngineFacts:
        return self._inner.survey()

    def count(self, request: Request) -> int:
        return self._inner.count(request)

    async def open(self) -> EngineFacts:
        with self._log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def generate(self, request: Request) -> AsyncIterator[Chunk | Completion]:
        if self._how == LINGER and self._log.read_text().count("\n") == 2:
            await asyncio.sleep(60)
        WAYS[self._how]()
        async for part in self._inner.generate(request):
            yield part


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def chatter() -> None:
    """What libraries do: by Python's file, by the descriptor, and with bytes that are no text."""
    print("loading weights ... {", flush=True)
    os.write(1, b'{"cell": "other", "repeat": 9}\xff\n')
    os.write(2, b"a warning\n")


def burst() -> None:
    """All memory that there is."""
    resource.setrlimit(resource.RLIMIT_AS, (600 * MIB, 600 * MIB))
    held = []
    try:
        while True:
            held.append(bytearray(50 * MIB))
    except MemoryError:
        held.clear()
        sys.stderr.write("out of memory\n")
        sys.stderr.flush()
        os._exit(1)


def hold() -> None:
    """300 MiB at once, given back again."""
    held = bytearray(b"1") * (300 * MIB)
    del held


def hold_and_die() -> None:
    hold()
    die()


#: The second process that opens such an engine takes so long that somebody must stop it.
LINGER = "linger"
WAYS = {
    LINGER: lambda: None,
    "die": die,
    "hold-and-die": hold_and_die,
    "chatter": chatter,
    "burst": burst,
    "hold": hold,
    "fine": lambda: None,
}

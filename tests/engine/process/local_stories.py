"""What the stories about engine `local` share: opening one on the tiny model, and collecting its answers."""

from __future__ import annotations

import os
import select
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil

from tokenmill.cluster import EngineOptions, Node
from tokenmill.engine.local.engine import LocalEngine
from tokenmill.request import Chunk, Completion, Request, Sampling

OPTIONS = EngineOptions(slots=4, threads=1, dtype="fp32", kv_memory=64 << 20)
#: Tokens of an answer that is still being written when a story does something to it.
LONG = 4000


def make_engine(folder: Path, options: EngineOptions = OPTIONS) -> LocalEngine:
    return LocalEngine(Node(name="one", engine="local", target=str(folder)), options)


@asynccontextmanager
async def opened(folder: Path, options: EngineOptions = OPTIONS) -> AsyncIterator[LocalEngine]:
    engine = make_engine(folder, options)
    try:
        await engine.open()
        yield engine
    finally:
        await engine.close()


def ask(prompt: str, max_tokens: int = 24, *, stop: tuple[str, ...] = (), temperature: float = 0.0) -> Request:
    sampling = Sampling(max_tokens=max_tokens, stop=stop, temperature=temperature)
    return Request(row=0, custom_id=prompt, prompt=prompt, sampling=sampling)


def stream(engine: LocalEngine, request: Request) -> AsyncGenerator[Chunk | Completion, None]:
    return cast(AsyncGenerator[Chunk | Completion, None], engine.generate(request))


@dataclass
class Told:
    """A whole answer, as it came."""

    chunks: list[Chunk]
    end: Completion

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)


async def answer(engine: LocalEngine, request: Request) -> Told:
    chunks: list[Chunk] = []
    async for part in engine.generate(request):
        if isinstance(part, Completion):
            return Told(chunks, part)
        chunks.append(part)
    raise AssertionError("an answer must end with its completion")


def worker_of(parent: int) -> int:
    """The process id of the one worker of `parent`."""
    (worker,) = psutil.Process(parent).children()
    return worker.pid


def wait_for_end(pid: int, seconds: float = 60) -> bool:
    """Whether the process ends, told by the kernel rather than by asking again and again."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(descriptor)

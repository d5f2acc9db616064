"""Who sits where: nodes of the run that want a worker, and workers that wait for a node.

Neither has to come first. A worker that was let in and isn't wanted yet waits here, with its beats; a node that wants
one waits until somebody comes, or until it is known that nobody will.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tokenmill.engine.local.supervise import Worker
from tokenmill.engine.local.wire import FromWorker
from tokenmill.errors import NodeGone
from tokenmill.launch.member import Member


class Seated(Worker, Protocol):
    """A worker that came through the door."""

    @property
    def member(self) -> Member: ...

    def sit(self, receive: Callable[[FromWorker], None]) -> None:
        """From now on its messages go there."""
        ...


class NobodyComes(NodeGone):
    """No worker is left and none will come; what was committed is kept."""


class Seats:
    """At most `number` workers are here at any time."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._wanting: dict[str, asyncio.Future[Seated]] = {}
        self._parked: list[Seated] = []
        self._present: list[Seated] = []
        self._over = ""

    @property
    def members(self) -> list[Member]:
        return [worker.member for worker in self._present]

    @property
    def present(self) -> list[Seated]:
        return list(self._present)

    async def hire(self, name: str, receive: Callable[[FromWorker], None], _threads: int) -> Worker:
        """The next worker for the node `name`; raises `NobodyComes` if there will be none."""
        worker = next((each for each in self._parked if _suits(each, name)), None)
        if worker is not None:
            self._parked.remove(worker)
        elif self._over:
            raise NobodyComes(self._over)
        else:
            coming: asyncio.Future[Seated] = asyncio.get_running_loop().create_future()
            self._wanting[name] = coming
            try:
                worker = await coming
            except asyncio.CancelledError:
                if coming.done() and not coming.cancelled() and coming.exception() is None:
                    self._give(coming.result())  # it came in the very moment
                raise
            finally:
                self._wanting.pop(name, None)
        worker.sit(receive)
        return worker

    def arrive(self, worker: Seated) -> bool:
        """Takes a worker in; False if all seats are taken."""
        if len(self._present) >= self.number:
            return False
        self._present.append(worker)
        self._give(worker)
        return True

    def depart(self, worker: Seated) -> None:
        """It is gone, whether it sat or waited."""
        if worker in self._present:
            self._present.remove(worker)
        if worker in self._parked:
            self._parked.remove(worker)

    def end(self, cause: str) -> None:
        """Nobody will come any more: who waits in vain is told, now and later."""
        self._over = cause
        for coming in self._wanting.values():
            if not coming.done():
                coming.set_exception(NobodyComes(cause))

    def _give(self, worker: Seated) -> None:
        for name, coming in self._wanting.items():
            if _suits(worker, name) and not coming.done():
                coming.set_result(worker)
                return
        self._parked.append(worker)


def _suits(worker: Seated, name: str) -> bool:
    return worker.member.seat in ("", name)

"""One session's workers from elsewhere: a door, the seats behind it, and the launcher that makes workers appear.

The driver's side needs no more than this: `hire` for each node's engine, `start` before the run and `stop` after it,
whatever happened in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from msgspec.structs import replace

from tokenmill.engine.local.machine import Machine, has_fast_bf16, this_machine
from tokenmill.errors import TokenmillError
from tokenmill.footprint import OwnProcess
from tokenmill.launch.door import Door
from tokenmill.launch.launcher import Work, make_launcher
from tokenmill.launch.member import Member
from tokenmill.launch.seat import Seats
from tokenmill.launch.spec import On

#: Seconds between two looks at the launcher.
LOOK = 0.5
#: Bytes that a machine is taken to have as long as it hasn't said: enough, so that nothing is refused for lack of it.
ENOUGH = 1 << 50


class Crew:
    """What `on` asks for; nothing is started before `start`."""

    def __init__(self, on: On, work: Work) -> None:
        self.on = on
        self.seats = Seats(len(work.names) or on.seats)
        self.launcher = make_launcher(on, work)
        self._door: Door | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._note: Callable[[str], None] = lambda _: None

    def staffing(self, name: str) -> dict[str, object]:
        """How the engine of the node `name` gets its worker, as its arguments."""
        return {"hire": partial(self.seats.hire, name), "elsewhere": self.elsewhere}

    @property
    def elsewhere(self) -> Machine:
        """What stands for the machines of workers until they have told of theirs: a share of this one, or anything."""
        if self.launcher.remote:
            return Machine(host=self.on.kind, cores=1, memory=ENOUGH, fast_bf16=has_fast_bf16())
        here, ranks = this_machine(), self.on.ranks
        return replace(here, cores=max(1, here.cores // ranks), memory=here.memory // ranks)

    async def start(self, note: Callable[[str], None]) -> None:
        """Opens the door and starts the launcher; a `TokenmillError` says why not, and then nothing is left behind."""
        self._note = note
        on = self.on
        self._door = Door(self.seats, on.silence, note=note, lost=self._lost, leaving=self.launcher.part)
        try:
            invitation = await self._door.open(remote=self.launcher.remote, address=on.address, port=on.port)
            await self.launcher.start(invitation)
        except BaseException:
            await self.stop()
            raise
        self._keeping = asyncio.create_task(self._keep(), name=f"keeps {on.kind}")

    async def dismiss(self) -> None:
        """Has all workers leave and the launcher end everything; fine to call twice."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        try:
            if self._door is not None:
                await self._door.close()
        finally:
            await self.launcher.stop()

    async def stop(self) -> None:
        """The same for good; raises what went wrong in looking after the launcher."""
        await self.dismiss()
        keeping, self._keeping = self._keeping, None
        if keeping is not None and not keeping.cancelled() and (error := keeping.exception()) is not None:
            raise error

    def fresh_processes(self) -> Iterable[tuple[str, OwnProcess]]:
        return self.launcher.fresh_processes()

    async def _keep(self) -> None:
        """Looks after the launcher; whatever ends this, nobody waits for workers in vain."""
        cause = "the launcher isn't looked after any more"
        try:
            while True:
                standing = await self.launcher.poll(self.seats.members)
                for line in standing.notes:
                    self._note(line)
                if standing.over:
                    self.seats.end(standing.over)
                await asyncio.sleep(LOOK)
        except TokenmillError as error:
            cause = str(error)
        finally:
            self.seats.end(cause)

    def _lost(self, member: Member) -> None:
        self._note(f"lost {member}")
        self.launcher.dismiss(member)

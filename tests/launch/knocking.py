"""A door on loopback, and a guest that says whatever a test wants."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tokenmill import __version__
from tokenmill.engine.local.wire import HEADER, PROTOCOL, FromWorker, ToWorker, encode, to_worker
from tokenmill.launch.door import Door
from tokenmill.launch.handshake import (
    NONCE,
    Asked,
    FromDoor,
    Knock,
    frame,
    from_door,
    is_proof,
    prove,
    torch_version,
)
from tokenmill.launch.invitation import Invitation
from tokenmill.launch.member import Member
from tokenmill.launch.seat import Seats


@dataclass
class Hall:
    """A door that is open, and what was said of it."""

    door: Door
    invitation: Invitation
    seats: Seats
    notes: list[str]
    lost: list[Member] = field(default_factory=list)
    guests: list[Guest] = field(default_factory=list)


@asynccontextmanager
async def opened(seats: int = 2, silence: float = 30.0, patience: float = 30.0) -> AsyncIterator[Hall]:
    places, notes, lost = Seats(seats), [], []
    door = Door(places, silence, note=notes.append, lost=lost.append, patience=patience)
    hall = Hall(door, await door.open(remote=False), places, notes, lost)
    try:
        yield hall
    finally:
        for guest in hall.guests:
            guest.writer.close()
            with suppress(ConnectionError):
                await guest.writer.wait_closed()
        await door.close()


class Guest:
    """One connection to a door, and its answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def come(cls, hall: Hall) -> Guest:
        host, _, port = hall.invitation.addresses[0].rpartition(":")
        guest = cls(*await asyncio.open_connection(host, int(port)))
        hall.guests.append(guest)
        return guest

    async def hear(self) -> FromDoor:
        return from_door(await self._body())

    async def obey(self) -> ToWorker:
        return to_worker(await self._body())

    async def knock(self, hall: Hall, *, token: str | None = None, **said: object) -> FromDoor:
        """The first words, right ones unless a test says otherwise; the door's answer."""
        asked = await self.hear()
        assert isinstance(asked, Asked)
        ours = secrets.token_bytes(NONCE)
        right = {
            "member": Member(host="elsewhere", pid=7, rank=1, cores=3, memory=1 << 30),
            "protocol": PROTOCOL,
            "version": __version__,
            "torch": torch_version(),
            "nonce": ours,
            "proof": prove(token or hall.door.token, b"worker", asked.nonce, ours),
        }
        self.writer.write(frame(Knock(**(right | said))))  # type: ignore[arg-type]
        answer = await self.hear()
        self.is_sure = is_proof(getattr(answer, "proof", b""), hall.door.token, b"driver", ours, asked.nonce)
        return answer

    def say(self, message: FromWorker) -> None:
        self.writer.write(encode(message))

    async def is_shown_out(self) -> bool:
        """Whether the door ends the connection; whatever it still says is passed over."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        return True

    async def leave(self) -> None:
        self.writer.close()

    async def _body(self) -> bytes:
        length = int.from_bytes(await self.reader.readexactly(HEADER), "big")
        return await self.reader.readexactly(length)

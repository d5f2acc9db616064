"""Where workers come in: a listener that lets in who proves that it knows the run's token, and nobody else.

It is bound to loopback unless workers come from other hosts. Until a worker was let in it may send one short frame and
has some seconds for it. Afterwards both ends send a beat a second: a link that was cut says nothing of itself, so who
is silent is called lost.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import cast

from tokenmill.engine.local.machine import Machine
from tokenmill.engine.local.supervise import GRACE
from tokenmill.engine.local.wire import (
    MAX_FRAME,
    Beat,
    Frames,
    FromWorker,
    Leave,
    ToWorker,
    WireError,
    encode,
    from_worker,
)
from tokenmill.errors import UsageError
from tokenmill.launch.handshake import (
    KNOCK,
    NONCE,
    PATIENCE,
    Asked,
    Denied,
    Knock,
    Welcome,
    frame,
    from_stranger,
    is_proof,
    prove,
    torch_version,
    unlike,
)
from tokenmill.launch.invitation import Invitation
from tokenmill.launch.member import Member
from tokenmill.launch.seat import Seats

#: Seconds between two beats of ours.
BEAT = 1.0
#: Connections that haven't proved anything yet; further ones are closed unheard.
STRANGERS = 64
#: Different refusals that the user is told of.
REFUSALS = 32
#: Addresses that workers are told to try.
ADDRESSES = 8
LOOPBACK = "127.0.0.1"


class Door:
    """The listener of one session; `note` is told of who was refused, `lost` of workers that went without leave.

    `leaving` is told of each worker in the moment before it is told to leave.
    Seconds: `silence` for workers, `patience` for what strangers have to say.
    """

    def __init__(
        self,
        seats: Seats,
        silence: float,
        *,
        note: Callable[[str], None],
        lost: Callable[[Member], None],
        leaving: Callable[[Member], None] = lambda _: None,
        patience: float = PATIENCE,
    ) -> None:
        self.seats = seats
        self.silence = silence
        self.patience = patience
        self.token = secrets.token_hex(32)
        self.torch = torch_version()
        self.lost = lost
        self.leaving = leaving
        self._note = note
        self._noted: set[str] = set()
        self._guests: set[Guest] = set()
        self._server: asyncio.Server | None = None
        self._beating: asyncio.Task[None] | None = None

    async def open(self, *, remote: bool, address: str | None = None, port: int = 0) -> Invitation:
        """Listens; raises `UsageError` if that can't be done there. `address` is for workers of other hosts alone."""
        host = LOOPBACK if not remote else "::" if _is_ipv6(address) else "0.0.0.0"
        try:
            self._server = await asyncio.get_running_loop().create_server(lambda: Guest(self), host, port)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"workers can't be let in at {host} port {port} ({reason}); choose another port"
            ) from error
        port = self._server.sockets[0].getsockname()[1]
        names = [LOOPBACK] if not remote else [address] if address else own_addresses()
        self._beating = asyncio.create_task(self._beat(), name="beats")
        return Invitation(addresses=tuple(with_port(name, port) for name in names), token=self.token)

    async def close(self) -> None:
        """Tells all workers to leave, waits until they are gone, and stops listening."""
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*(guest.stop() for guest in set(self._guests)))
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)

    def refuse(self, reason: str) -> None:
        """A line for the user, once for each reason, and for so many at most: strangers may try for ever."""
        if reason not in self._noted and len(self._noted) < REFUSALS:
            self._noted.add(reason)
            self._note(f"a worker was refused: {reason}")

    def come(self, guest: Guest) -> bool:
        """Whether there is room for another stranger."""
        self._guests.add(guest)
        return sum(not each.is_in for each in self._guests) <= STRANGERS

    def go(self, guest: Guest) -> None:
        self._guests.discard(guest)
        if guest.is_in:
            self.seats.depart(guest)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            for guest in set(self._guests):
                guest.tick()


class Guest(asyncio.Protocol):
    """One connection, from its first word to its end; once let in it is what an engine calls its worker."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._frames = Frames(KNOCK)
        self._nonce = secrets.token_bytes(NONCE)
        self._transport: asyncio.Transport | None = None
        self._receive: Callable[[FromWorker], None] | None = None
        self._fault = ""
        self._told = False
        self._quiet = 0
        self.is_in = False
        self.member = Member()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def machine(self) -> Machine:
        said = self.member
        return Machine(host=said.host, cores=said.cores, memory=said.memory, fast_bf16=said.fast_bf16)

    def sit(self, receive: Callable[[FromWorker], None]) -> None:
        self._receive = receive

    def send(self, message: ToWorker) -> None:
        self._write(encode(message))

    async def stop(self) -> None:
        """Tells it to leave and waits for its end; one that doesn't go is cut off."""
        if not self._told and self.is_in:
            self._told = True
            self._door.leaving(self.member)
            self.send(Leave())
        assert self._transport is not None
        if not self.is_in:
            self._transport.abort()
        hanging = asyncio.get_running_loop().call_later(GRACE, self._transport.abort)
        await asyncio.wait({self.ended})
        hanging.cancel()

    def tick(self) -> None:
        """A second has passed. Silence is counted in seconds in which the loop could have heard something."""
        self._quiet += 1
        if self._quiet * BEAT > (self._door.silence if self.is_in else self._door.patience):
            self._end(f"it was silent for {self._quiet - 1:.0f} s", abort=True)
        elif self.is_in:
            self.send(Beat())

    # -- asyncio calls these -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # that of uvloop has its methods, and isn't of its class
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._door.come(self):
            self._end("too many strangers at once", abort=True)
            return
        self._write(frame(Asked(self._nonce)))

    def data_received(self, data: bytes) -> None:
        self._quiet = 0 if self.is_in else self._quiet  # a stranger can't buy time by a byte a second
        try:
            for body in self._frames.feed(data):
                if self.is_in:
                    self._take(from_worker(body))
                elif not self._fault:
                    self._let_in(from_stranger(body))
        except WireError as error:
            if not self.is_in:
                self._door.refuse(f"{self._where()} isn't a worker of this run, it sent {error}")
            self._end(f"it sent {error}", abort=True)

    def connection_lost(self, error: Exception | None) -> None:
        self._door.go(self)
        reason = self._fault or ("it left" if self._told else f"its connection ended ({error or 'closed there'})")
        if not self.ended.done():
            self.ended.set_result(f"{self.member}: {reason}" if self.is_in else reason)
        if self.is_in and not self._told:
            self._door.lost(self.member)

    # -- what is done with it ------------------------------------------------------------------------------------

    def _let_in(self, knock: Knock) -> None:
        """One stranger, who has said all that is asked."""
        door = self._door
        if not is_proof(knock.proof, door.token, b"worker", self._nonce, knock.nonce):
            self._deny(f"{self._where()} doesn't know this run's token; start it by the launcher of this run")
        elif reason := unlike(knock, door.torch):
            self._deny(reason)
        else:
            self.member = knock.member
            door.torch = door.torch or knock.torch
            self.is_in = True
            if not door.seats.arrive(self):
                self.is_in = False
                self._deny(f"all {door.seats.number} seats are taken", final=False)
                return
            self._quiet = 0
            self._frames.limit = MAX_FRAME
            # It goes out before anything that a node sends: nodes hear of a worker in the loop's next turn.
            self._write(frame(Welcome(prove(door.token, b"driver", knock.nonce, self._nonce), door.silence)))

    def _deny(self, reason: str, *, final: bool = True) -> None:
        if final:
            self._door.refuse(reason)
        self._write(frame(Denied(reason, final)))
        self._end(reason)

    def _take(self, message: FromWorker) -> None:
        if isinstance(message, Beat):
            return
        if self._receive is None:
            raise WireError("a message that nobody asked for")
        self._receive(message)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _end(self, fault: str, *, abort: bool = False) -> None:
        self._fault = self._fault or fault
        assert self._transport is not None
        if abort:
            self._transport.abort()
        else:
            self._transport.close()

    def _where(self) -> str:
        assert self._transport is not None
        peer = self._transport.get_extra_info("peername")
        return f"a program on {peer[0]}" if peer else "a program"  # its port would make each try a new one


def own_addresses() -> list[str]:
    """Where other hosts may reach this one, the likeliest first; loopback alone if it has no network."""
    import psutil  # here, as only runs with other hosts need it

    up = {name for name, said in psutil.net_if_stats().items() if said.isup}
    listed = [
        each.address
        for name, addresses in psutil.net_if_addrs().items()
        for each in addresses
        if name in up and each.family == socket.AF_INET and not ip_address(each.address).is_loopback
    ]
    try:
        named = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    except OSError:
        named = set()
    return sorted(dict.fromkeys(listed), key=lambda each: each not in named)[:ADDRESSES] or [LOOPBACK]


def with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ipv6(address: str | None) -> bool:
    return address is not None and ":" in address

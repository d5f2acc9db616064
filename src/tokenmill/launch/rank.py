"""A rank: a worker that finds its driver over TCP; `python -P -m tokenmill.launch.rank`, started by a launcher.

It looks for its driver for a while, proves that it knows the run's token, and is then what a local node's worker is. It
ends when it is told to leave. When its driver vanished it leaves, or, where a join file says where drivers are, starts
over: the same process begins again from nothing, so that whoever waits for it sees no end, and nothing of the former
run is left in it. Ranks of a tensor parallel group find each other first; then the first of them goes to the door.

Nothing heavy is imported before the driver has answered.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from tokenmill import __version__
from tokenmill.engine.local.environment import SPINS
from tokenmill.engine.local.wire import HEADER, PROTOCOL, Load, Loaded, LoadFailed, WireError
from tokenmill.engine.local.worker import Link, isolate, leave, serve
from tokenmill.errors import TokenmillError, UsageError
from tokenmill.launch.handshake import (
    KNOCK,
    NONCE,
    PATIENCE,
    Asked,
    Denied,
    FromDoor,
    Knock,
    Welcome,
    frame,
    from_door,
    is_proof,
    prove,
    torch_version,
)
from tokenmill.launch.invitation import (
    FILE_VARIABLE,
    PATIENCE_VARIABLE,
    TOKEN_VARIABLE,
    Invitation,
    find_invitation,
)
from tokenmill.launch.invitation import PATIENCE as LOOKING
from tokenmill.launch.member import Member
from tokenmill.launch.surroundings import (
    LEASH_VARIABLE,
    as_torchrun,
    forget_secrets,
    is_left,
    number,
    own_gpu,
    settle,
)

if TYPE_CHECKING:
    from tokenmill.engine.local.group import Group

#: How many threads libraries take, read when they are loaded.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
#: Seconds to reach one address.
REACH = 5.0
#: Seconds between two rounds of tries.
AGAIN = 0.5


class Refused(Exception):
    """The door didn't let us in; `final`: it never will."""

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.final = final


def main() -> None:
    """Runs a rank to its end, which is the end of its process."""
    on_leash = LEASH_VARIABLE in os.environ
    isolate(leashed=on_leash, ignored=(signal.SIGINT,) if on_leash else (signal.SIGINT, signal.SIGTERM))
    if is_left(os.environ):
        leave("the process that started this rank is gone")
    forget_secrets(os.environ)
    as_torchrun(os.environ)
    member = settle(os.environ)
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
    group = meet(member) if member.tp > 1 else None
    link = find_driver(member)
    load = link.next()
    if not isinstance(load, Load):
        leave("the driver sent no Load after its greeting")
    work(link, load, group)


def meet(member: Member) -> Group:
    """The group of this rank; where this rank isn't its first, this is its whole life."""
    for name in THREADS:
        os.environ.setdefault(name, str(member.cores))
    from tokenmill.engine.local.group import Group, follow

    try:
        group = Group.join(os.environ, wait_for_invitation().token, over)
    except TokenmillError as error:
        leave(str(error))
    assert group is not None, "more than one rank is a group"
    if not group.leads:
        os.environ.pop(TOKEN_VARIABLE, None)
        follow(group)
    return group


def work(link: Link, load: Load, group: Group | None) -> NoReturn:
    """Loads what the driver wants, and answers."""
    prepare(load)
    from tokenmill.engine.local.session import load_session

    try:
        session = load_session(load, group)
    except TokenmillError as error:
        link.send(LoadFailed(str(error)))
        link.next()  # ends with the link
        leave("the driver went on after a failed load")
    link.send(Loaded())
    serve(link, session)


def prepare(load: Load) -> None:
    """What torch and the libraries below it read from the environment once, when they are loaded."""
    for name in THREADS:
        os.environ[name] = str(load.threads)
    if load.device == "cuda" and (gpu := own_gpu(os.environ)) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def gone() -> NoReturn:
    """The driver vanished: starts over where a file may name another one, else leaves."""
    if not os.environ.get(FILE_VARIABLE):
        leave("the driver is gone")
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # whoever is at the other end of one must see it end
    os.execv(sys.executable, [sys.executable, "-P", "-m", "tokenmill.launch.rank"])


def over(cause: str) -> NoReturn:
    """The group ended, so its ranks do; whoever may start over does."""
    os.write(2, f"{cause}\n".encode())
    if os.environ.get(FILE_VARIABLE):
        gone()
    os._exit(1)


def wait_for_invitation() -> Invitation:
    """The invitation, as soon as there is one."""
    deadline = time.monotonic() + patience()
    while True:
        try:
            return find_invitation(os.environ)
        except UsageError as error:
            if not os.environ.get(FILE_VARIABLE) or time.monotonic() > deadline:
                leave(str(error))
        time.sleep(AGAIN)


def patience() -> int:
    """Seconds to look for a driver."""
    return number(os.environ, PATIENCE_VARIABLE, int(LOOKING))


def find_driver(member: Member) -> Link:
    """Looks until a driver lets this rank in; ends the process if that will not be."""
    deadline = time.monotonic() + patience()
    while True:
        cause = "there is none"
        try:
            invitation = find_invitation(os.environ)
            for address in invitation.addresses:
                try:
                    return enter(address, invitation, member)
                except (OSError, WireError) as error:
                    cause = f"{address}: {error}"
        except Refused as error:
            cause = str(error)
            if error.final:
                leave(f"the driver refused this worker: {cause}")
        except UsageError as error:
            cause = str(error)
            if not os.environ.get(FILE_VARIABLE):
                leave(cause)
        if time.monotonic() > deadline:
            leave(f"no driver let this worker in within {patience()} s ({cause}); is the run still going on?")
        time.sleep(AGAIN)


def enter(address: str, invitation: Invitation, member: Member) -> Link:
    """Greets the door at `address`. Raises `Refused`, or `OSError` and `WireError` if there is no door of ours."""
    connection = socket.create_connection(split(address), timeout=REACH)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(PATIENCE)
        welcome = greet(connection, invitation.token, member)
        connection.settimeout(None)
    except BaseException:
        connection.close()
        raise
    os.environ.pop(TOKEN_VARIABLE, None)
    return Link(connection, silence=welcome.silence, gone=gone)


def greet(connection: socket.socket, token: str, member: Member) -> Welcome:
    """Proves that it knows the token, and has the door prove it."""
    asked = hear(connection)
    if isinstance(asked, Denied):
        raise Refused(asked.message, final=asked.final)
    if not isinstance(asked, Asked):
        raise WireError("no question from the door")
    ours = secrets.token_bytes(NONCE)
    knock = Knock(
        member=member,
        protocol=PROTOCOL,
        version=__version__,
        torch=torch_version(),
        nonce=ours,
        proof=prove(token, b"worker", asked.nonce, ours),
    )
    connection.sendall(frame(knock))
    answer = hear(connection)
    if isinstance(answer, Denied):
        stale = bool(os.environ.get(FILE_VARIABLE)) and "token" in answer.message  # the file may be written anew
        raise Refused(answer.message, final=answer.final and not stale)
    if not isinstance(answer, Welcome) or not is_proof(answer.proof, token, b"driver", ours, asked.nonce):
        raise WireError("what listens there doesn't know this run's token")
    return answer


def hear(connection: socket.socket) -> FromDoor:
    """One frame and not a byte more: what follows is for the link."""
    length = int.from_bytes(exactly(connection, HEADER), "big")
    if length > KNOCK:
        raise WireError(f"a first frame of {length} bytes, the limit is {KNOCK}")
    return from_door(exactly(connection, length))


def exactly(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        more = connection.recv(size - len(received))
        if not more:
            raise ConnectionError("it hung up during the greeting")
        received += more
    return received


def split(address: str) -> tuple[str, int]:
    """HOST:PORT, an IPv6 address in brackets."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        leave(f"{address!r} is no address; it must be HOST:PORT")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    main()

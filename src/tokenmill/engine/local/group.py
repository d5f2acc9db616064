"""One tensor parallel group: ranks that hold a share of every layer each, and compute every step together.

`Group.join(environment)` finds the other ranks, `follow(group)` is the whole life of a rank that isn't the first. The
first rank, the lead, is the worker that an engine talks to: it alone has requests, text and a batcher, and hands what
it decided to the others as plain ints. So no two ranks can ever disagree about what is in the cache.

    group = Group.join(os.environ, secret)     # None without tensor parallelism
    if group is not None and not group.leads:
        follow(group)                          # never returns
    session = load_session(load, group)        # the lead; then everything as in a worker of its own

What is read of the environment: RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torchrun sets them, LOCAL_RANK and
LOCAL_WORLD_SIZE where they are known, and TOKENMILL_TP, the ranks of a group. Rank r is in group r // tp. All ranks are
given the same secret, by which they know each other.

A group lives and dies as one: any rank that ends, for whatever reason, ends all of them within seconds, by `leave`.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from msgspec import Struct

from tokenmill.engine.local.control import Leave, Peer, Stranger, introduce, welcome
from tokenmill.engine.local.wire import TOKEN_VARIABLE
from tokenmill.errors import TokenmillError, UsageError

if TYPE_CHECKING:
    from torch import Tensor
    from torch._C._distributed_c10d import GatherOptions, Store, Work

TP_VARIABLE = "TOKENMILL_TP"
INTERFACE_VARIABLE = "GLOO_SOCKET_IFNAME"
#: Seconds in which all ranks of a group must have been started.
JOINING = 120.0
#: Seconds a rank waits inside one collective. A peer that died is noticed at once; this is for one that hangs.
COLLECTIVE = 120.0
#: Seconds for which a follower asks one store for its lead before it looks for another store.
LOOKING = 10.0
#: Seconds between two tries to reach the lead.
PAUSE = 0.2


class GroupNotFormed(TokenmillError):
    """Some rank of the group is missing or can't be reached."""


class Collectives(Protocol):
    """What is used of torch's process groups, whose stubs leave it out."""

    def allreduce(self, tensors: list[Tensor]) -> Work: ...

    def gather(self, outputs: list[list[Tensor]], inputs: list[Tensor], options: GatherOptions) -> Work: ...


class Place(Struct, frozen=True, kw_only=True):
    """Where one process stands: rank `rank` of the `size` of group `index`, the world's rank `rank + size * index`.

    `store` is where all ranks of the world meet first; `hosts_store`: this one opens it. `one_host`: all ranks of the
    group run on this machine. `device` is the number of the GPU that is this rank's, if it has one.
    """

    rank: int
    size: int
    index: int
    store: tuple[str, int]
    hosts_store: bool
    one_host: bool
    device: int

    @property
    def leads(self) -> bool:
        return self.rank == 0


def read_place(environment: Mapping[str, str]) -> Place | None:
    """The place that the environment states, None without tensor parallelism; `UsageError` if it can't be."""
    size = _number(environment, TP_VARIABLE, 1, least=1)
    if size == 1:
        return None
    world = _number(environment, "WORLD_SIZE", None, least=1)
    rank = _number(environment, "RANK", None, least=0)
    if rank >= world:
        raise UsageError(f"RANK {rank} isn't below WORLD_SIZE {world}")
    if world % size:
        raise UsageError(
            f"{world} ranks can't be divided into groups of {size} ({TP_VARIABLE}); start a multiple of it"
        )
    here = _number(environment, "LOCAL_WORLD_SIZE", world, least=1)
    local = _number(environment, "LOCAL_RANK", rank % here, least=0)
    first = local - rank % size
    address = environment.get("MASTER_ADDR", "")
    if not address:
        raise UsageError("MASTER_ADDR isn't set: a rank can't find the others; start ranks by a launcher")
    return Place(
        rank=rank % size,
        size=size,
        index=rank // size,
        store=(address, _number(environment, "MASTER_PORT", None, least=1)),
        hosts_store=rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        one_host=first >= 0 and first + size <= here,
        device=own_device(local, environment.get("CUDA_VISIBLE_DEVICES", "")),
    )


def own_device(local: int, visible: str) -> int:
    """The number of a rank's GPU among those it sees: SLURM shows each task its own alone, which is then number 0."""
    seen = [each for each in visible.split(",") if each.strip()]
    return local % len(seen) if seen else local


def _number(environment: Mapping[str, str], name: str, default: int | None, least: int) -> int:
    text = environment.get(name, "")
    if not text and default is not None:
        return default
    if not text.isascii() or not text.isdecimal() or int(text) < least:
        said = repr(text) if text else "not set"
        raise UsageError(f"{name} is {said}; it must be a whole number of at least {least}")
    return int(text)


class Group:
    """This rank's membership; `leads` says which side it is on."""

    def __init__(self, place: Place, peers: Mapping[int, Peer], name: str, store: Store, leave: Leave) -> None:
        self.place = place
        self.leave = leave
        self._peers = [peers[rank] for rank in sorted(peers)]
        self._name = name
        self._store = store
        self._tensors: Collectives | None = None

    @classmethod
    def join(cls, environment: Mapping[str, str], secret: str = "", leave: Leave | None = None) -> Group | None:
        """Finds the other ranks of this process's group and proves to them that it belongs there.

        None if the environment asks for no tensor parallelism. `secret` is by default the token that the environment
        holds. `leave` is called with the cause, from any thread, once the group is over; by default the process ends.
        Raises `UsageError` for an environment that can't be, `GroupNotFormed` if ranks are missing after `JOINING`.
        """
        place = read_place(environment)
        if place is None:
            return None
        key = (secret or environment.get(TOKEN_VARIABLE, "")).encode()
        if not key:
            raise UsageError(f"{TOKEN_VARIABLE} isn't set: ranks can't know each other; start ranks by a launcher")
        deadline = time.monotonic() + JOINING
        where = f"group-{place.index}-{environment.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        leaving = leave or end_process
        if place.leads:
            store = _open_store(place)
            sockets, name = _gather(place, store, where, key, deadline, environment.get(INTERFACE_VARIABLE, ""))
        else:
            found, name, store = _find_lead(place, where, key, deadline)
            sockets = {0: found}
        first = place.index * place.size
        peers = {rank: Peer(each, f"rank {first + rank}", leaving) for rank, each in sockets.items()}
        return cls(place, peers, name, store, leaving)

    @property
    def leads(self) -> bool:
        return self.place.leads

    @property
    def rank(self) -> int:
        return self.place.rank

    @property
    def size(self) -> int:
        return self.place.size

    def tell(self, body: bytes) -> None:
        """Lead to all followers, or a follower to its lead: one message, in order with all others."""
        for peer in self._peers:
            peer.tell(body)

    def hear(self) -> list[bytes]:
        """The next message of each other rank; a follower hears one, its lead's. Waits for them without a limit."""
        return [peer.hear() for peer in self._peers]

    def end(self) -> None:
        """Leaves the group, which ends all other ranks; this process goes on."""
        for peer in self._peers:
            peer.close()

    def connect(self, device: str) -> None:
        """Joins the ranks' tensors: gloo on processors, NCCL on CUDA; all ranks of the group do it at the same time."""
        import torch
        from torch._C._distributed_c10d import PrefixStore, ProcessGroupGloo

        store = PrefixStore(self._name, self._store)
        limit = timedelta(seconds=COLLECTIVE)
        try:
            if device == "cuda":
                from torch._C._distributed_c10d import ProcessGroupNCCL

                torch.cuda.set_device(self.place.device)
                options = ProcessGroupNCCL.Options()
                options._timeout = limit
                self._tensors = cast(Collectives, ProcessGroupNCCL(store, self.rank, self.size, options))
                return
            gloo = ProcessGroupGloo._Options()  # type: ignore[attr-defined]  # the stubs leave it out
            # By address and not by the host's name, which often stands for 127.0.0.1 and is then useless to others.
            gloo._devices = [ProcessGroupGloo.create_device(hostname=self._peers[0].own_address)]
            gloo._timeout = limit
            self._tensors = cast(Collectives, ProcessGroupGloo(store, self.rank, self.size, gloo))
        except RuntimeError as error:
            raise GroupNotFormed(f"the ranks' tensors can't be joined ({_first_line(error)})") from error

    def connect_torch(self, device: str) -> None:
        """Joins the ranks as torch's default process group, for libraries that know only that one."""
        import psutil
        import torch
        from torch import distributed
        from torch._C._distributed_c10d import PrefixStore

        own = self._peers[0].own_address
        for name, addresses in psutil.net_if_addrs().items():
            if any(each.address == own for each in addresses):
                os.environ[INTERFACE_VARIABLE] = name
        if device == "cuda":
            torch.cuda.set_device(self.place.device)
        try:
            distributed.init_process_group(
                "nccl" if device == "cuda" else "gloo",
                store=PrefixStore(self._name, self._store),
                rank=self.rank,
                world_size=self.size,
                timeout=timedelta(seconds=COLLECTIVE),
            )
        except RuntimeError as error:
            raise GroupNotFormed(f"the ranks' tensors can't be joined ({_first_line(error)})") from error

    def sum(self, x: Tensor) -> Tensor:
        """`x` becomes the sum over all ranks, bit for bit the same on each."""
        assert self._tensors is not None, "connect comes first"
        try:
            self._tensors.allreduce([x]).wait()
        except RuntimeError as error:
            self.leave(f"tensor parallel group: a sum failed ({_first_line(error)})")
        return x

    def gather(self, x: Tensor) -> list[Tensor]:
        """The `x` of every rank by rank, all of one shape; nothing where this rank doesn't lead."""
        import torch
        from torch._C._distributed_c10d import GatherOptions

        assert self._tensors is not None, "connect comes first"
        options = GatherOptions()
        options.rootRank = 0
        outputs = [[torch.empty_like(x) for _ in range(self.size)]] if self.leads else []
        try:
            self._tensors.gather(outputs, [x.contiguous()], options).wait()
        except RuntimeError as error:
            self.leave(f"tensor parallel group: a gathering failed ({_first_line(error)})")
        return outputs[0] if outputs else []


def follow(group: Group) -> NoReturn:
    """The life of a rank that doesn't lead: loads what its lead loads, computes what its lead decides, ends with it."""
    from tokenmill.engine.local.follower import obey

    obey(group)


def end_process(cause: str) -> NoReturn:
    """Ends this process at once, from any thread; the cause is what its starter will report."""
    os.write(2, f"{cause}\n".encode())
    os._exit(1)


def _open_store(place: Place) -> Store:
    """The store of the world; who opens it listens where MASTER_ADDR is and nowhere else.

    A host's name that stands for 127.0.0.1 on that host itself, as is common, says nothing of where others look.
    """
    from torch._C._distributed_c10d import TCPStore

    host, port = place.store
    limit = timedelta(seconds=JOINING if place.leads else LOOKING)
    try:
        if not place.hosts_store:
            return TCPStore(host, port, None, False, timeout=limit, wait_for_workers=False)
        address = socket.gethostbyname(host)
        is_misnamed = ip_address(address).is_loopback and host not in (address, "localhost")
        listener = socket.create_server(("" if is_misnamed else address, port))
        return TCPStore(host, port, None, True, limit, wait_for_workers=False, master_listen_fd=listener.detach())
    except (OSError, RuntimeError) as error:
        raise GroupNotFormed(f"the meeting point {host}:{port} can't be used ({_first_line(error)})") from error


def _gather(
    place: Place, store: Store, where: str, secret: bytes, deadline: float, interface: str
) -> tuple[dict[int, socket.socket], str]:
    with socket.create_server((_reachable(place, interface), 0)) as listener:
        host, port = listener.getsockname()[:2]
        store.set(where, f"{host} {port}")
        try:
            return welcome(listener, secret, place.size, deadline)
        except TimeoutError as error:
            raise GroupNotFormed(
                f"tensor parallel group {place.index}: rank {error} of 0 to {place.size - 1} didn't come within "
                f"{JOINING:.0f} s; look at what it wrote"
            ) from error


def _find_lead(place: Place, where: str, secret: bytes, deadline: float) -> tuple[socket.socket, str, Store]:
    """The lead's socket, the group's name, and the store by which it was found.

    What a former lead left behind, an address or a whole store, is tried anew until its successor's is there.
    """
    cause: object = "it hasn't come"
    while (left := deadline - time.monotonic()) > 0:
        try:
            store = _open_store(place)
            store.wait([where], timedelta(seconds=min(LOOKING, left)))
            host, port = store.get(where).decode().split()
            connection = socket.create_connection((host, int(port)), timeout=LOOKING)
        except (OSError, RuntimeError, GroupNotFormed) as error:
            cause = _first_line(error)
        else:
            try:
                name = introduce(connection, secret, place.rank)
                store.set_timeout(timedelta(seconds=JOINING))
                return connection, name, store
            except (OSError, Stranger) as error:
                cause = error
                connection.close()
        time.sleep(PAUSE)
    raise GroupNotFormed(f"tensor parallel group {place.index}: its first rank can't be reached ({cause})")


def _reachable(place: Place, interface: str) -> str:
    """An address of this host that the other ranks of the group can reach."""
    if place.one_host:
        return "127.0.0.1"
    if interface:
        import psutil

        for each in psutil.net_if_addrs().get(interface, ()):
            if each.family == socket.AF_INET:
                return str(each.address)
        raise UsageError(f"{INTERFACE_VARIABLE} {interface!r}: no such interface with an IPv4 address")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(place.store)  # sends nothing; asks the kernel for the way there
        address = str(probe.getsockname()[0])
    if ip_address(address).is_loopback:
        raise UsageError(
            f"MASTER_ADDR {place.store[0]!r} is {address} on this host, which the group's other hosts can't reach; "
            f"give it a name or address that they can, or set {INTERFACE_VARIABLE}"
        )
    return address


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]

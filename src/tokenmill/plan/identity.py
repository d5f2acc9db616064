"""Which nodes are one server, which are on one host, and which share a device: found from evidence, not from addresses.

An address alone is wrong both ways: loopback and LAN address are one machine, two tunnels from loopback are two, and
two GPUs behind one address are two devices. So each kind of evidence has its weight, and what the operator declared
counts most:

1. Nodes whose servers show the same marks (things only one process shows) are one server, whatever their addresses.
2. Nodes behind the same port and path of the same machine are one server, unless their marks differ.
3. Nodes declared to be on the same host are, and so are nodes that are one server.
4. Nodes whose addresses belong to this machine, or are the same, are on one host, unless that would join two hosts
   that were declared to be different (as behind tunnels or a router).
5. On one host, nodes share a device if one is declared for both; if none is declared they are taken to share it,
   unless one computes on the CPU alone and the other on a GPU.

The groups never depend on the order of the nodes: evidence that would join what may not be joined is left out as a
whole, and said to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Literal

from msgspec import Struct

#: How sure a finding is, the surest first. `assumed`: nothing speaks against it and nothing for it.
Sure = Literal["declared", "certain", "likely", "assumed"]
#: What this machine is called as a host; engines in this process say the same.
HERE = "localhost"
#: Seconds: a round trip this short never left the machine, or hardly.
NEAR = 0.00008
UNKNOWN = "unknown"
#: What a declared device is, by how its name begins.
KINDS = {"cpu": "cpu", "gpu": "gpu", "cuda": "gpu", "rocm": "gpu", "mps": "gpu"}


class Mark(Struct, frozen=True):
    """Something only one process shows, such as the instant of its start; `values` are those seen in all readings."""

    kind: str
    values: frozenset[str]


class Sighting(Struct, frozen=True, kw_only=True):
    """What was found out about one node.

    `place`: the URL's host; `port` None for an engine of this machine. `addresses`: what the host resolves to.
    `is_here`: one of them is this machine's. `host`, `devices`: as declared. `placement`: `cpu` or `gpu` if the server
    told where the weights lie. `round_trip`: seconds of the fastest connect.
    """

    node: str
    place: str = HERE
    port: int | None = None
    path: str = ""
    addresses: frozenset[str] = frozenset()
    is_here: bool = False
    host: str | None = None
    devices: frozenset[str] = frozenset()
    placement: str = ""
    marks: tuple[Mark, ...] = ()
    round_trip: float | None = None


class Evidence(Struct, frozen=True):
    """Why nodes were put together, in words."""

    nodes: tuple[str, ...]
    sure: Sure
    text: str


class Device(Struct, frozen=True):
    """Hardware on which nodes compute; each of `servers` are the names of one server. `kind`: cpu, gpu or unknown."""

    name: str
    kind: str
    sure: Sure
    servers: tuple[tuple[str, ...], ...]


class Host(Struct, frozen=True):
    """A machine, the devices of it that are in use, and the evidence for it."""

    name: str
    sure: Sure
    devices: tuple[Device, ...]
    evidence: tuple[Evidence, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(sorted(node for device in self.devices for server in device.servers for node in server))


class Identity(Struct, frozen=True):
    """All hosts, and what a reader should know of doubts."""

    hosts: tuple[Host, ...]
    notes: tuple[str, ...] = ()

    def host_of(self, node: str) -> Host:
        return next(host for host in self.hosts if node in host.nodes)

    def device_of(self, node: str) -> Device:
        devices = self.host_of(node).devices
        return next(device for device in devices for server in device.servers if node in server)

    def twins_of(self, node: str) -> tuple[str, ...]:
        """All names of the server behind a node, its own among them."""
        return next(server for server in self.device_of(node).servers if node in server)

    def may_share(self, one: str, other: str) -> bool:
        """Whether two nodes may compute on the same device: on one host, and not known to be on two of its devices."""
        if self.host_of(one) is not self.host_of(other):
            return False
        first, second = self.device_of(one), self.device_of(other)
        if first is second:
            return True
        if "assumed" not in (first.sure, second.sure):
            return False
        return UNKNOWN in (first.kind, second.kind) or first.kind == second.kind


Group = tuple[Sighting, ...]
Link = Callable[[Sighting, Sighting], bool]


def identify(sightings: Iterable[Sighting]) -> Identity:
    """Groups nodes into hosts, devices and servers; each node's name must occur once."""
    alone: list[Group] = [(each,) for each in sorted(sightings, key=lambda each: each.node)]
    notes: list[str] = []
    servers = _joined(alone, _same_marks)
    servers = _joined(servers, _same_door, _one_process, notes)
    hosts = _joined(servers, _same_declared)
    undeclared = [group for group in hosts if not _declared(group)]
    rest = [group for group in hosts if _declared(group)]
    hosts = [*rest, *_joined(undeclared, _same_machine)]
    hosts = _joined(hosts, _same_machine, lambda group: len(_declared(group)) <= 1, notes)
    notes += [
        f"{_names(group)}: one server, declared to be on hosts {_listed(_declared(group))}; correct one"
        for group in servers
        if len(_declared(group)) > 1
    ]
    notes += [note for each in alone for note in _doubts(each[0])]
    found = [_host(group, [server for server in servers if server[0] in group]) for group in hosts]
    return Identity(tuple(sorted(found, key=lambda host: host.nodes)), tuple(sorted(set(notes))))


def _joined(
    groups: Sequence[Group],
    linked: Link,
    may_be_one: Callable[[Group], bool] = lambda _: True,
    notes: list[str] | None = None,
) -> list[Group]:
    """Joins groups that links connect; connected groups that may not be one all stay as they were."""
    found: list[Group] = []
    for parts in _connected(groups, lambda a, b: any(linked(one, other) for one in a for other in b)):
        whole = tuple(sorted((each for part in parts for each in part), key=lambda each: each.node))
        if len(parts) == 1 or may_be_one(whole):
            found.append(whole)
            continue
        found += parts
        if notes is not None:
            notes.append(f"{_names(whole)}: the same address, but known to be apart; declare host where it isn't said")
    return sorted(found, key=lambda group: group[0].node)


def _connected(groups: Sequence[Group], linked: Callable[[Group, Group], bool]) -> list[list[Group]]:
    """The groups in sets that chains of links connect."""
    left = list(groups)
    found = []
    while left:
        reached = [left.pop(0)]
        for group in reached:  # grows while it is read
            near = [other for other in left if linked(group, other)]
            left = [other for other in left if other not in near]
            reached += near
        found.append(reached)
    return found


def _same_marks(one: Sighting, other: Sighting) -> bool:
    return bool(_common(one, other))


def _differ(one: Sighting, other: Sighting) -> bool:
    """Whether the marks show two processes; a mark that changed between readings shows nothing."""
    return not _same_marks(one, other) and any(
        mark.kind == its.kind and len(mark.values) == len(its.values) == 1 for mark in one.marks for its in other.marks
    )


def _one_process(group: Group) -> bool:
    return not any(_differ(one, other) for one, other in combinations(group, 2))


def _same_door(one: Sighting, other: Sighting) -> bool:
    """The same port and path of what seems to be one machine; an engine of this machine has no door."""
    return one.port is not None and (one.port, one.path) == (other.port, other.path) and _same_machine(one, other)


def _same_machine(one: Sighting, other: Sighting) -> bool:
    return (one.is_here and other.is_here) or bool(one.addresses & other.addresses)


def _same_declared(one: Sighting, other: Sighting) -> bool:
    return one.host is not None and one.host == other.host


def _declared(group: Iterable[Sighting]) -> set[str]:
    return {each.host for each in group if each.host is not None}


def _host(group: Group, servers: list[Group]) -> Host:
    declared = sorted(_declared(group))
    here = any(each.is_here for each in group)
    name = declared[0] if declared else HERE if here else min(each.place for each in group)
    evidence = tuple(_reasons(group, servers))
    sure: Sure = "declared" if declared else "likely" if here or evidence else "assumed"
    if not declared and len(servers) == 1 and any(each.sure == "certain" for each in evidence):
        sure = "certain"
    return Host(name, sure, tuple(_devices(servers)), evidence)


def _reasons(group: Group, servers: list[Group]) -> Iterable[Evidence]:
    """Why the nodes of a host are together; the same reason for several nodes is told once."""
    for server in servers:
        if len(server) > 1:
            yield _one_server(server)
    for host in sorted(_declared(group)):
        yield from _shared([each for each in group if each.host == host], "declared", f"declared to be on {host!r}")
    here = [each for each in group if each.is_here]
    places = _listed(each.place for each in here)
    yield from _shared(here, "likely", _own(places))
    for address in sorted({address for each in group if not each.is_here for address in each.addresses}):
        there = [each for each in group if address in each.addresses]
        yield from _shared(there, "likely", f"at address {address}")


def _one_server(server: Group) -> Evidence:
    names = tuple(each.node for each in server)
    alike = {mark.kind for one, other in combinations(server, 2) for mark in _common(one, other)}
    if alike:
        return Evidence(names, "certain", f"one server: they show the same {_listed(alike)}")
    return Evidence(names, "likely", f"one server: port {server[0].port} of one machine")


def _common(one: Sighting, other: Sighting) -> list[Mark]:
    """The marks of one that the other shows as well."""
    return [mark for mark in one.marks for its in other.marks if mark.kind == its.kind and mark.values & its.values]


def _shared(nodes: list[Sighting], sure: Sure, text: str) -> Iterable[Evidence]:
    if len(nodes) > 1:
        yield Evidence(tuple(each.node for each in nodes), sure, f"one host: {text}")


def _own(places: str) -> str:
    return f"on this machine, whose own addresses are {places}" if "," in places else f"on this machine, at {places}"


def _devices(servers: list[Group]) -> Iterable[Device]:
    """The devices of one host. Servers that declare none are taken to share one, but for CPU and GPU."""
    declared = [server for server in servers if _devices_of(server)]
    silent = [server for server in servers if not _devices_of(server)]
    for parts in _connected(declared, lambda a, b: bool(_devices_of(a) & _devices_of(b))):
        names = {name for part in parts for name in _devices_of(part)}
        kinds = {kind for name in names for start, kind in KINDS.items() if name.lower().startswith(start)}
        yield Device(_listed(names), kinds.pop() if len(kinds) == 1 else UNKNOWN, "declared", _server_names(parts))
    seen = {_kind(server) for server in silent} - {UNKNOWN}
    one = seen.pop() if len(seen) == 1 and not declared else None
    for kind in ("cpu", "gpu", UNKNOWN) if one is None else (one,):
        parts = [server for server in silent if one is not None or _kind(server) == kind]
        if parts:
            yield Device(kind, kind, "assumed", _server_names(parts))


def _kind(server: Group) -> str:
    """Where an undeclared server computes; unknown too if it does on both."""
    placements = {each.placement for each in server if each.placement}
    return placements.pop() if len(placements) == 1 else UNKNOWN


def _devices_of(server: Group) -> set[str]:
    return {device for each in server for device in each.devices}


def _server_names(servers: Iterable[Group]) -> tuple[tuple[str, ...], ...]:
    return tuple(sorted(tuple(each.node for each in server) for server in servers))


def _doubts(sighting: Sighting) -> Iterable[str]:
    """A round trip that is too short for a wire is weak evidence: it is told, and joins nothing."""
    trip = sighting.round_trip
    if trip is not None and trip < NEAR and not sighting.is_here and sighting.host is None:
        yield (
            f"{sighting.node}: its round trip of {trip * 1e6:.0f} us is that of this machine itself; if it is a "
            f"container or a virtual machine here, declare host = {HERE!r}"
        )


def _names(group: Iterable[Sighting]) -> str:
    return ", ".join(sorted(each.node for each in group))


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))

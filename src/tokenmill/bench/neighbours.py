"""What is known of nodes before they are measured: which may share hardware, what a rule by addresses would say of
them, and which verdict on them is kept.

It is found once, when a sweep begins, and kept with it, so that a sweep that is shown later says what was seen then.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from msgspec import Struct

from tokenmill.cluster import Node
from tokenmill.driver.ask_nodes import CONNECT, identity_of, url_of
from tokenmill.driver.sharing import groups_of
from tokenmill.driver.verdicts import Group, StoredVerdict
from tokenmill.driver.witness import look
from tokenmill.plan.identity import Identity

SAME_DEVICE, SAME_HOST, OTHER_HOST = "same device", "same host, other device", "other host"
#: Places of pairs, the nearest first.
PLACES = (SAME_DEVICE, SAME_HOST, OTHER_HOST)
MIXED = "several places"
LOOPBACK = "127.0.0.1"


class Pair(Struct, frozen=True):
    """Two nodes by number, where the second is seen from the first, and what that is known from."""

    one: int
    other: int
    place: str
    why: str


class Neighbours(Struct, frozen=True, kw_only=True):
    """`names` by number. `resolved`: what each node's address leads to, in one word. `groups`: nodes that may share a
    device, used with as many slots as they have. `kept`: verdicts on them. `versions`: what servers say of themselves.
    """

    names: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    resolved: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    kept: tuple[StoredVerdict, ...] = ()
    versions: dict[str, str] = {}

    def place_of(self, nodes: Sequence[int]) -> str:
        """Where these nodes are from each other."""
        found = {pair.place for pair in self.pairs if pair.one in nodes and pair.other in nodes}
        return found.pop() if len(found) == 1 else MIXED

    def why(self, nodes: Sequence[int]) -> str:
        """What that is known from, each reason once."""
        found = dict.fromkeys(pair.why for pair in self.pairs if pair.one in nodes and pair.other in nodes)
        return "; ".join(found)

    def addresses(self, nodes: Sequence[int]) -> int:
        """Machines that a rule counts which goes by addresses alone."""
        return len({self.resolved[node] for node in nodes})

    def group(self, nodes: Sequence[int]) -> Group | None:
        """These very nodes, if they may share a device."""
        return next((group for group in self.groups if group.nodes == tuple(nodes)), None)


def neighbours_of(
    nodes: Sequence[Node],
    digest: str,
    kept: Sequence[StoredVerdict],
    *,
    threads: int | None,
    versions: dict[str, str],
) -> Neighbours:
    """Looks at the nodes without asking them for text."""
    identity = identity_of(nodes)
    return Neighbours(
        names=tuple(node.name for node in nodes),
        pairs=tuple(_pair(nodes, identity, *both) for both in combinations(range(len(nodes)), 2)),
        resolved=tuple(_resolved(node) for node in nodes),
        groups=tuple(groups_of(nodes, digest, threads=threads)),
        kept=tuple(each for each in kept if each.digest == digest),
        versions=versions,
    )


def _pair(nodes: Sequence[Node], identity: Identity, one: int, other: int) -> Pair:
    first, second = nodes[one].name, nodes[other].name
    host = identity.host_of(first)
    if host is not identity.host_of(second):
        return Pair(one, other, OTHER_HOST, "nothing speaks for one host")
    told = [each for each in host.evidence if {first, second} <= set(each.nodes)]
    reasons = [f"{each.text} ({each.sure})" for each in told]
    places = {identity.device_of(name) for name in (first, second)}
    named = " and ".join(sorted(f"{device.name} ({device.sure})" for device in places))
    reasons.append(f"{'device' if len(places) == 1 else 'devices'} {named}")
    place = SAME_DEVICE if identity.may_share(first, second) else SAME_HOST
    return Pair(one, other, place, "; ".join(reasons))


def _resolved(node: Node) -> str:
    """The first address that a name leads to; an engine of this machine counts as one at its loopback address."""
    url = url_of(node)
    return next(iter(look(url, CONNECT).addresses), url.host) if url is not None else LOOPBACK

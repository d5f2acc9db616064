"""Which nodes share a server, a host or a device: where an address rule is wrong, and the laws of grouping."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.plan.identity import HERE, Identity, Mark, Sighting, identify

PORT = 11434
STARTED = "start of the process"


def server(node: str, address: str, port: int = PORT, **more: object) -> Sighting:
    """A node at an address of another machine, unless `is_here` says that it is this one's."""
    found = {"place": address, "addresses": frozenset({address}), "port": port} | more
    return Sighting(node=node, **found)  # type: ignore[arg-type]


def here(node: str, address: str = "127.0.0.1", port: int = PORT, **more: object) -> Sighting:
    return server(node, address, port, is_here=True, **more)


def started(*values: str) -> tuple[Mark, ...]:
    return (Mark(STARTED, frozenset(values)),)


def hosts(identity: Identity) -> list[tuple[str, ...]]:
    return [host.nodes for host in identity.hosts]


def devices(identity: Identity) -> list[tuple[str, ...]]:
    return [tuple(n for s in device.servers for n in s) for host in identity.hosts for device in host.devices]


def servers(identity: Identity) -> list[tuple[str, ...]]:
    return [server for host in identity.hosts for device in host.devices for server in device.servers]


def test_loopback_and_lan_address_of_one_machine_are_one_server() -> None:
    """Two distinct addresses are not two machines: both are this one's, and on one port it is one node twice."""
    found = identify([here("loop"), here("lan", "192.168.1.10")])

    assert servers(found) == [("lan", "loop")]
    (host,) = found.hosts
    assert (host.name, host.sure) == (HERE, "likely")
    assert [each.text for each in host.evidence] == [
        "one server: port 11434 of one machine",
        "one host: on this machine, whose own addresses are 127.0.0.1, 192.168.1.10",
    ]


def test_two_gpus_of_one_machine_are_two_devices() -> None:
    """One address is not one device: two servers with a GPU each may work together."""
    found = identify(
        [
            server("a", "10.0.0.5", 11434, devices=frozenset({"gpu:0"})),
            server("b", "10.0.0.5", 11435, devices=frozenset({"gpu:1"})),
        ]
    )

    assert (hosts(found), devices(found)) == ([("a", "b")], [("a",), ("b",)])
    assert not found.may_share("a", "b")


def test_three_nodes_on_two_hosts() -> None:
    """Two of three nodes share a machine, which a count of nodes or addresses doesn't see."""
    found = identify([server("a", "10.0.0.5"), server("b", "10.0.0.5", 11435), server("c", "10.0.0.6")])

    assert hosts(found) == [("a", "b"), ("c",)]
    assert servers(found) == [("a",), ("b",), ("c",)]
    assert found.may_share("a", "b")
    assert not found.may_share("a", "c")


def test_the_same_marks_are_one_server_whatever_the_addresses() -> None:
    """A server that shows its start through two addresses we know nothing of is one server, for certain."""
    found = identify(
        [server("lan", "10.0.0.5", marks=started("17.25")), server("vpn", "10.8.0.2", marks=started("17.25"))]
    )

    assert servers(found) == [("lan", "vpn")]
    (host,) = found.hosts
    assert (host.sure, host.evidence[0].text) == ("certain", "one server: they show the same start of the process")


def test_different_marks_are_two_servers_on_one_address() -> None:
    """Two processes may listen on one port of two addresses; they are on one host, but two servers."""
    found = identify([here("loop", marks=started("1")), here("lan", "192.168.1.10", marks=started("2"))])
    assert servers(found) == [("lan",), ("loop",)]
    assert hosts(found) == [("lan", "loop")]
    assert "known to be apart" in found.notes[0]


def test_a_mark_that_changes_between_readings_proves_nothing_apart() -> None:
    """An expiry that moves on with every request only shows sameness, when two readings meet."""
    moved = identify([here("loop", marks=started("1", "2")), here("lan", "192.168.1.10", marks=started("3", "4"))])
    assert servers(moved) == [("lan", "loop")]
    met = identify([server("a", "10.0.0.5", marks=started("1", "2")), server("b", "10.8.0.2", marks=started("2", "3"))])
    assert servers(met) == [("a", "b")]


def test_tunnels_are_apart_if_declared() -> None:
    """Loopback ports that lead to other machines are on the hosts that were declared."""
    found = identify([here("a", port=1, host="box-1"), here("b", port=2, host="box-2"), here("c", port=3)])

    assert hosts(found) == [("a",), ("b",), ("c",)]
    assert [host.name for host in found.hosts] == ["box-1", "box-2", HERE]
    assert "known to be apart; declare host where it isn't said" in found.notes[0]


def test_a_declared_host_takes_in_what_is_seen_to_be_the_same_machine() -> None:
    """One declaration is enough for all nodes of an address, and gives the host its name."""
    found = identify(
        [server("a", "10.0.0.5", host="box"), server("b", "10.0.0.5", 2), server("c", "10.9.9.9", host="box")]
    )
    assert [(host.name, host.sure, host.nodes) for host in found.hosts] == [("box", "declared", ("a", "b", "c"))]


def test_a_server_declared_on_two_hosts_is_told() -> None:
    """A declaration that contradicts what the server shows is named, and doesn't hide that it is one server."""
    found = identify(
        [server("a", "10.0.0.5", host="x", marks=started("1")), server("b", "10.0.0.6", host="y", marks=started("1"))]
    )
    assert servers(found) == [("a", "b")]
    assert found.notes == ("a, b: one server, declared to be on hosts x, y; correct one",)


def test_behind_one_door_with_two_paths_are_two_servers() -> None:
    """A reverse proxy has one address and port for several servers, told apart by their paths."""
    found = identify([server("a", "10.0.0.5", 443, path="/gpu1"), server("b", "10.0.0.5", 443, path="/gpu2")])
    assert servers(found) == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("", "", True),
        ("cpu", "", True),
        ("cpu", "cpu", True),
        ("gpu", "gpu", True),
        ("cpu", "gpu", False),
    ],
)
def test_placement_tells_cpu_and_gpu_apart(one: str, other: str, shared: bool) -> None:
    """Without a declaration nodes of one host are taken to share, but for one on the CPU and one on a GPU."""
    found = identify([here("a", port=1, placement=one), here("b", port=2, placement=other)])
    assert found.may_share("a", "b") is shared
    assert len(devices(found)) == (1 if shared else 2)


def test_an_undeclared_node_may_share_with_a_declared_one() -> None:
    """One declared GPU says nothing of a neighbour that declares none, unless that is seen on the CPU."""
    gpu = frozenset({"gpu:0"})
    found = identify([here("a", port=1, devices=gpu), here("b", port=2), here("c", port=3, placement="cpu")])
    assert found.may_share("a", "b")
    assert not found.may_share("a", "c")
    found = identify([here("a", port=1, devices=gpu), here("b", port=2, devices=frozenset({"gpu:0", "gpu:1"}))])
    assert found.may_share("a", "b")


def test_engines_of_this_machine_share_its_processor() -> None:
    """Nodes without a port are engines here: several servers on one host and device."""
    found = identify([Sighting(node=name, is_here=True, placement="cpu") for name in ("a", "b")])
    assert (servers(found), devices(found)) == ([("a",), ("b",)], [("a", "b")])


def test_a_short_round_trip_is_told_and_joins_nothing() -> None:
    """A round trip that never left the machine hints at a container here."""
    found = identify([here("a"), server("b", "172.17.0.2", round_trip=0.00004)])
    assert hosts(found) == [("a",), ("b",)]
    assert found.notes[0].startswith("b: its round trip of 40 us is that of this machine itself; if it is a container")


def test_no_nodes_make_no_hosts() -> None:
    """Nothing seen is nothing grouped."""
    assert identify([]) == Identity(())


NAMES = "abcdefg"
SIGHTINGS = st.lists(
    st.builds(
        Sighting,
        node=st.sampled_from(NAMES),
        place=st.sampled_from(["10.0.0.1", "box"]),
        port=st.sampled_from([1, 2, None]),
        addresses=st.sets(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), max_size=2).map(frozenset),
        is_here=st.booleans(),
        host=st.sampled_from([None, None, "x", "y"]),
        devices=st.sets(st.sampled_from(["gpu:0", "gpu:1", "cpu"]), max_size=2).map(frozenset),
        placement=st.sampled_from(["", "cpu", "gpu"]),
        marks=st.sampled_from([(), (), started("1"), started("2"), started("2", "3")]),
    ),
    max_size=len(NAMES),
    unique_by=lambda each: each.node,
)


@given(SIGHTINGS, st.randoms(use_true_random=False))
def test_the_order_of_nodes_changes_nothing(sightings: list[Sighting], random: object) -> None:
    """Any order of the same evidence gives the same hosts, devices, servers, evidence and notes."""
    found = identify(sightings)
    random.shuffle(sightings)  # type: ignore[attr-defined]
    assert identify(sightings) == found


@given(SIGHTINGS)
def test_grouping_is_an_equivalence(sightings: list[Sighting]) -> None:
    """Each node is in exactly one server, which lies within one device, which lies within one host."""
    found = identify(sightings)
    names = sorted(each.node for each in sightings)
    for groups in (hosts(found), devices(found), servers(found)):
        assert sorted(name for group in groups for name in group) == names
    for one, other in product(names, repeat=2):
        assert found.may_share(one, other) == found.may_share(other, one)
        if found.twins_of(one) == found.twins_of(other):
            assert found.device_of(one) is found.device_of(other)
        if found.device_of(one) is found.device_of(other):
            assert found.host_of(one) is found.host_of(other)
            assert found.may_share(one, other)


@given(SIGHTINGS)
def test_what_was_declared_and_proved_holds(sightings: list[Sighting]) -> None:
    """Equal declared hosts are one host, and shared marks are one server, whatever else is seen."""
    found = identify(sightings)
    for one, other in combinations(sightings, 2):
        if one.host is not None and one.host == other.host:
            assert found.host_of(one.node) is found.host_of(other.node)
        if any(a.values & b.values for a in one.marks for b in other.marks):
            assert found.twins_of(one.node) == found.twins_of(other.node)

"""The JSON node file of other programs, and nodes that are one server of this machine."""

from __future__ import annotations

import json

import pytest

from plan.inventories import KINDS
from tokenmill.errors import InputFaults
from tokenmill.plan.inventory import Entry
from tokenmill.plan.node_list import name_for, read_list, twins
from tokenmill.plan.url import read_url


def listed(*nodes: dict[str, object], **more: object) -> str:
    return json.dumps({"nodes": nodes} | more)


def test_a_node_file_is_read() -> None:
    """URL, name and priority come over."""
    text = listed({"url": "http://192.168.1.10:11434", "name": "server-1", "priority": 2}, {"url": "http://h:1"})

    assert read_list(text, "nodes.json", KINDS, taken=()) == (
        Entry(name="server-1", url="http://192.168.1.10:11434", priority=2),
        Entry(name="h-1", url="http://h:1"),
    )


def test_a_name_that_does_not_fit_is_made_anew() -> None:
    """A node called by its URL, or not at all, is named by host and port, apart from names that are taken."""
    text = listed(
        {"url": "http://[::1]:11434", "name": "http://[::1]:11434"}, {"url": "http://h:1", "name": None, "priority": 0}
    )

    assert [each.name for each in read_list(text, "f", KINDS, taken={"h-1"})] == ["1-11434", "h-1-2"]
    assert name_for(read_url("http://10.0.0.5:8000"), ()) == "10.0.0.5-8000"


def test_all_faults_of_a_node_file_are_told() -> None:
    """Unknown fields would be lost, so they are faults, together with bad URLs and names that are used twice."""
    text = listed(
        {"url": "http://h:1", "name": "a", "weight": 3},
        {"url": "h:1", "name": "b"},
        {"url": "http://h:2", "name": "a"},
        version=1,
    )
    with pytest.raises(InputFaults) as caught:
        read_list(text, "f", KINDS, taken=())

    assert [fault.split(";")[0] for fault in caught.value.faults] == [
        "'version' is not known",
        "node 1: field 'weight' is not known",
        "node 2 ('b'): url: 'h:1' is no URL of a server",
        "node 3 ('a'): the name is that of node 1 ('a') already",
    ]


@pytest.mark.parametrize("text", ["", "[]", '{"nodes": 1}', '{"nodes": [1]}', "{}", b"\xff"])
def test_what_is_no_node_file_is_refused(text: str | bytes) -> None:
    """Anything else is one fault."""
    with pytest.raises(InputFaults, match=r"^f: "):
        read_list(text, "f", KINDS, taken=())


def test_one_server_under_several_names_is_found() -> None:
    """localhost, 127.0.0.1, ::1 and this machine's own address on one port are one server; other ports are others."""
    urls = (
        "http://localhost:11434",
        "http://127.0.0.1:11434",
        "http://[::1]:11434",
        "http://10.0.0.5:11434",
        "http://10.0.0.6:11434",
        "http://localhost:8000",
        "http://127.0.0.1:8000/v1",
    )
    entries = [Entry(name=f"n{number}", url=url) for number, url in enumerate(urls)]

    assert [[each.name for each in group] for group in twins(entries)] == [["n0", "n1", "n2"]]
    assert [[each.name for each in group] for group in twins(entries, own={"10.0.0.5"})] == [["n0", "n1", "n2", "n3"]]
    assert twins([Entry(name="a", url="local:demo"), Entry(name="b", url="local:demo")]) == []

"""Which nodes share hardware, asked from a host of a real network: three machines made of namespaces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from namespaces import Land, land
from requirements import require

SLOW = "rate = 150.0\nslots = 2\n"
#: A server without the path from which marks are read.
PLAIN = SLOW + 'apis = ["openai"]\n'


@pytest.fixture
def three() -> Iterator[Land]:
    require("netns")
    with land() as made:
        yield made


def check(three: Land, folder: Path, inventory: dict[str, str], *words: str, code: int = 0) -> Any:
    """What `nodes check`, called on host a, finds of nodes by name; a device may follow the URL."""
    text = ""
    for name, place in inventory.items():
        url, _, device = place.partition(" ")
        text += f'[[node]]\nname = "{name}"\nurl = "http://{url}"\n' + (f'device = "{device}"\n' if device else "")
    (folder / "nodes.toml").write_text(text, encoding="utf-8")
    line = (
        "-m",
        "tokenmill",
        "nodes",
        "check",
        "--json",
        "--most-slots",
        "4",
        "--nodes-file",
        str(folder / "nodes.toml"),
    )
    ended = three.run("a", *line, *words)
    assert ended.returncode == code, ended
    return json.loads(ended.stdout)


def grouped(told: Any) -> list[list[list[list[str]]]]:
    """Names by host, device and server."""
    return [[device["servers"] for device in host["devices"]] for host in told["identity"]["hosts"]]


def test_aliases_devices_and_hosts_come_out_right(three: Land, tmp_path: Path) -> None:
    """Loopback and LAN alias are one server, two GPUs of a host two devices, and five nodes lie on three hosts."""
    for host, port in (("a", 8000), ("b", 8000), ("b", 8001), ("c", 8000)):
        three.serve(host, tmp_path, SLOW, port=port)
    told = check(
        three,
        tmp_path,
        {
            "lan": "10.77.0.1:8000",
            "loop": "127.0.0.1:8000",
            "one": "10.77.0.2:8000 gpu:0",
            "two": "10.77.0.2:8001 gpu:1",
            "far": "10.77.0.3:8000",
        },
    )

    assert grouped(told) == [[[["far"]]], [[["lan", "loop"]]], [[["one"]], [["two"]]]]
    assert [host["name"] for host in told["identity"]["hosts"]] == ["10.77.0.3", "localhost", "10.77.0.2"]
    assert told["identity"]["hosts"][1]["evidence"][0]["sure"] == "certain"
    assert [each["slots"] for each in told["nodes"]] == [2, 2, 2, 2, 2]


def test_an_alias_is_found_without_marks(three: Land, tmp_path: Path) -> None:
    """A server that shows no marks is still one at loopback and LAN address, as both are this machine's own."""
    three.serve("a", tmp_path, PLAIN, port=8000)
    told = check(three, tmp_path, {"lan": "10.77.0.1:8000", "loop": "127.0.0.1:8000"}, "--no-ramp")

    assert grouped(told) == [[[["lan", "loop"]]]]
    assert told["identity"]["hosts"][0]["evidence"][0] == {
        "nodes": ["lan", "loop"],
        "sure": "likely",
        "text": "one server: port 8000 of one machine",
    }


def test_two_servers_on_one_port_are_told_apart(three: Land, tmp_path: Path) -> None:
    """Two processes that listen on one port of two addresses are two servers of one host, as their marks differ."""
    three.serve("a", tmp_path, SLOW, port=8000, address="127.0.0.1")
    three.serve("a", tmp_path, SLOW, port=8000, address="10.77.0.1")
    told = check(three, tmp_path, {"lan": "10.77.0.1:8000", "loop": "127.0.0.1:8000"})

    assert grouped(told) == [[[["lan"], ["loop"]]]]


def test_a_host_that_is_cut_off_is_told_and_comes_back(three: Land, tmp_path: Path) -> None:
    """A cut makes a node unreachable and leaves the others alone; with the wire back, it is as before."""
    for host in ("b", "c"):
        three.serve(host, tmp_path, SLOW, port=8000)
    inventory = {"b": "10.77.0.2:8000", "c": "10.77.0.3:8000"}
    three.cut("b")
    b, c = check(three, tmp_path, inventory, "--no-ramp", code=3)["nodes"]
    assert b["fault"]
    assert (c["fault"], c["models"]) == ("", ["llama3.2:latest"])

    three.restore("b")
    told = check(three, tmp_path, inventory, "--no-ramp")
    assert grouped(told) == [[[["b"]]], [[["c"]]]]

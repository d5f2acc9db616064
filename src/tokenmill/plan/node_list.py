"""The JSON node file of other programs, and which of its nodes are one server under two names.

{"nodes": [{"url": "http://192.168.1.10:11434", "name": "server-1", "priority": 0}]}
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from tokenmill.errors import InputFaults
from tokenmill.plan.inventory import Entry, checked, is_name
from tokenmill.plan.url import Url, read_url

#: What such a file says of a node; another field would be lost, so it is a fault.
LISTED = ("url", "name", "priority")


def read_list(text: str | bytes, source: str, kinds: Collection[str], taken: Collection[str]) -> tuple[Entry, ...]:
    """The nodes of the file; one without a name, or with a name we can't use, gets one made from its URL.

    Raises:
        InputFaults: everything that is wrong with the file.
    """
    try:
        data = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputFaults(source, [f"is no JSON: {error}; export the node file again"]) from error
    nodes = data.get("nodes") if isinstance(data, dict) else None
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise InputFaults(source, ['must hold {"nodes": [{"url": ..., "name": ..., "priority": ...}]}'])
    faults = [f"{key!r} is not known; only 'nodes' is" for key in data if key != "nodes"]
    tables, names = [], set(taken)
    for number, node in enumerate(nodes, start=1):
        faults += [
            f"node {number}: field {field!r} is not known; known: {', '.join(LISTED)}"
            for field in node
            if field not in LISTED
        ]
        tables.append(_named({field: node[field] for field in LISTED if node.get(field) is not None}, names))
    entries = checked(tables, kinds, faults)
    if faults:
        raise InputFaults(source, faults)
    return entries


def _named(table: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The table with a name that fits; a URL that can't be read is left to the check that tells of it."""
    name = table.get("name")
    if not isinstance(name, str) or not is_name(name):
        try:
            name = name_for(read_url(str(table.get("url", ""))), names)
        except ValueError:
            name = f"node-{len(names)}"
    names.add(name)
    return table | {"name": name}


def name_for(url: Url, taken: Collection[str]) -> str:
    """A name made from host and port that isn't taken yet."""
    host = "".join(letter if (letter.isascii() and letter.isalnum()) or letter == "." else "-" for letter in url.host)
    host = host.strip("-.")
    stem = f"{host or 'node'}-{url.port}"
    number, name = 1, stem
    while name in taken or not is_name(name):
        number += 1
        name = f"{stem[-90:].lstrip('-.')}-{number}"
    return name


def twins(entries: Iterable[Entry], own: Collection[str] = ()) -> list[tuple[Entry, ...]]:
    """Nodes that are one server of this machine under several addresses, those of one server together.

    `own`: hosts besides loopback that are known to be this machine, such as its LAN address.
    """
    places: dict[tuple[int, str], list[Entry]] = {}
    for entry in entries:
        url = entry.server
        if url is not None and (url.is_loopback or url.host in own):
            places.setdefault((url.port, url.path), []).append(entry)
    return [tuple(group) for group in places.values() if len(group) > 1]

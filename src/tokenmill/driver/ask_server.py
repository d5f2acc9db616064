"""What a server tells besides answers: its API, its models, and marks by which it is known again at another address."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from tokenmill.cluster import Node
from tokenmill.engine.http.address import Address, address_of
from tokenmill.engine.http.client import Client
from tokenmill.engine.http.clocks import Clocks
from tokenmill.engine.http.detect import detect, with_base
from tokenmill.engine.http.dialect import decoded, entries, text_of
from tokenmill.engine.http.key import find_key
from tokenmill.engine.http.proxy import find_proxy
from tokenmill.errors import EngineError, TokenmillError
from tokenmill.plan.identity import Mark
from tokenmill.plan.url import PORTS

CLOCKS = Clocks(connect=5.0)
#: Readings of each server. Only what is the same in all is a mark: what moves on by itself is shown by every server.
READINGS = 2
START = "start of its process"
MEMORY = "models in memory with the instants of their expiry"
#: An expiry that tells servers apart has a fraction of a second, all of which counts: servers that work together end
#: answers within one millisecond often enough.
_EXPIRY = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,12})")
_STARTED = re.compile(r"^process_start_time_seconds(?:\{[^}]*\})?\s+([0-9.e+]{4,30})\s*$", re.MULTILINE)


async def kind_of(node: Node, *, send_key: bool = True) -> str:
    """`ollama` or `openai`: as named, else as the server answers."""
    if node.engine not in PORTS:
        return node.engine
    address = address_of(node, os.environ)
    key = find_key(node, address, os.environ) if send_key else None
    proxy = find_proxy(node, address, key, os.environ)
    return await detect(_place(node, address), address, key, CLOCKS, proxy)


async def models_of(node: Node, kind: str) -> tuple[str, ...]:
    """The models that the server lists; empty if it lists none."""
    address = address_of(node, os.environ)
    path, key, names = ("/api/tags", "models", ("model", "name"))
    if kind == "openai":
        address, path, key, names = with_base(address), "/models", "data", ("id", "id")
    client = _client(node, address)
    try:
        listed = entries(decoded(client, path, await client.describe(path)), key)
    except EngineError as error:
        if error.status == 404:
            return ()
        raise
    finally:
        await client.close()
    return tuple(name for name in (text_of(each, *names) for each in listed) if name)


async def marks_of(nodes: Sequence[Node | None]) -> list[tuple[Mark, ...]]:
    """The marks of each server, none for None. All are read at the same time, and again."""
    readings = [await asyncio.gather(*(_reading(node) for node in nodes)) for _ in range(READINGS)]
    return [_lasting(each) for each in zip(*readings, strict=True)]


def _lasting(readings: Sequence[dict[str, str]]) -> tuple[Mark, ...]:
    first = readings[0]
    kept = [kind for kind, value in first.items() if all(each.get(kind) == value for each in readings)]
    return tuple(Mark(kind, frozenset({first[kind]})) for kind in kept)


async def _reading(node: Node | None) -> dict[str, str]:
    if node is None:
        return {}
    try:
        client = _client(node, replace(address_of(node, os.environ), path=""))
    except TokenmillError:  # its key is missing, which was told when it was asked
        return {}
    try:
        found = {
            MEMORY: memory_mark(await _maybe(client, "/api/ps")),
            START: start_mark(await _maybe(client, "/metrics")),
        }
    finally:
        await client.close()
    return {kind: value for kind, value in found.items() if value}


def memory_mark(content: bytes) -> str:
    """Loaded models with their expiry, which a server keeps to a fraction of a second; empty without."""
    try:
        found: Any = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    marks = []
    for model in entries(found, "models") if isinstance(found, dict) else ():
        expiry = _EXPIRY.match(text_of(model, "expires_at"))
        if expiry:
            marks.append(f"{text_of(model, 'digest')} {expiry[1]}")
    return "; ".join(sorted(marks))


def start_mark(content: bytes) -> str:
    """When the process started, if the server publishes metrics."""
    found = _STARTED.search(content.decode("utf-8", "replace"))
    return found[1] if found else ""


async def _maybe(client: Client, path: str) -> bytes:
    """What is there, or nothing: most servers have only one of these paths."""
    try:
        return await client.describe(path)
    except EngineError:
        return b""


def _client(node: Node, address: Address) -> Client:
    key = find_key(node, address, os.environ)
    return Client(_place(node, address), address, key, CLOCKS, proxy=find_proxy(node, address, key, os.environ))


def _place(node: Node, address: Address) -> str:
    return f"node {node.name!r} at {address.origin}"

"""Finds servers at places that were given: connects, and asks whoever accepts what it speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from tokenmill.cluster import Node
from tokenmill.driver.ask_nodes import server_side
from tokenmill.errors import EngineError, TokenmillError
from tokenmill.plan.inventory import Entry
from tokenmill.plan.node_list import name_for
from tokenmill.plan.url import Url

#: Connections at the same time: quick on a local network, and no flood.
TOGETHER = 64
#: Seconds for a server to say what it speaks.
ANSWER = 5.0


def discover(places: Sequence[Url], taken: Collection[str], *, patience: float) -> list[Entry]:
    """The servers among `places`, with names made for them that aren't `taken`; sends no key."""
    server_side()  # told now if a library is missing
    found = asyncio.run(_discover(places, patience))
    names = set(taken)
    entries = []
    for url, kind in found:
        name = name_for(url, names)
        names.add(name)
        entries.append(Entry(name=name, url=str(url), engine=kind))
    return entries


async def _discover(places: Sequence[Url], patience: float) -> list[tuple[Url, str]]:
    turns = asyncio.Semaphore(TOGETHER)
    kinds = await asyncio.gather(*(_kind(url, turns, patience) for url in places))
    return [(url, kind) for url, kind in zip(places, kinds, strict=True) if kind]


async def _kind(url: Url, turns: asyncio.Semaphore, patience: float) -> str:
    """What a server there speaks; empty if there is none, or it speaks neither API."""
    async with turns:
        if not await _accepts(url, patience):
            return ""
        node = Node(name=url.host, engine=url.scheme, target=str(url).partition(":")[2])
        try:
            async with asyncio.timeout(ANSWER):
                kind: str = await server_side().kind_of(node, send_key=False)
                return kind
        except (EngineError, TokenmillError, TimeoutError):
            return ""


async def _accepts(url: Url, patience: float) -> bool:
    try:
        async with asyncio.timeout(patience):
            _, writer = await asyncio.open_connection(url.host, url.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True

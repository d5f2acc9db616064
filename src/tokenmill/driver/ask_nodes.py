"""Asks nodes what they are: one after the other, so that none is measured while another keeps shared hardware busy."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.cluster import EngineFacts, Node
from tokenmill.driver.options import SERVED, Options, Settings, make_engine
from tokenmill.driver.ramping import ramped
from tokenmill.driver.witness import Seen, look
from tokenmill.engine import Engine
from tokenmill.errors import EngineError, TokenmillError, UsageError
from tokenmill.plan.identity import Identity, Mark, Sighting, identify
from tokenmill.plan.inventory import DEVICES
from tokenmill.plan.ramp import Ramp, words
from tokenmill.plan.url import Url, read_url
from tokenmill.workload import Spec

#: Seconds to wait for a connection.
CONNECT = 5.0
PROCESSOR = "cpu"


class Found(Struct, kw_only=True):
    """What one node is. What isn't known is None or empty; `fault` says why the node can't be used.

    `round_trip`, `first_token`: seconds; `tokens_per_second` of the best burst. `slots` is a number, `slots_in_words`
    says whether there may be more, or why there is none. `same_server`: all names of the server, its own among them.
    """

    node: str
    address: str
    engine: str
    version: str = ""
    models: tuple[str, ...] = ()
    model: str = ""
    digest: str = ""
    context: int | None = None
    placement: str = ""
    round_trip: float | None = None
    slots: int | None = None
    slots_in_words: str = "n/a"
    tokens_per_second: float | None = None
    first_token: float | None = None
    host: str = ""
    device: str = ""
    same_server: tuple[str, ...] = ()
    fault: str = ""
    note: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """All nodes in the order asked for, and how they belong together."""

    nodes: tuple[Found, ...]
    identity: Identity


class Inquiry(Struct, frozen=True, kw_only=True):
    """How to ask: the `model` where a server holds several, the widest burst (0: send none), seconds for one node."""

    model: str | None = None
    most: int = 0
    patience: float = 120.0


def ask_nodes(nodes: Sequence[Node], inquiry: Inquiry, watch: Callable[[str], None] = lambda _: None) -> Report:
    """Asks every node; `watch` is told the name of each beforehand. A node that fails is a fault in the report.

    Raises:
        UsageError: something is wrong with how a node is named, or a library is missing; nothing was sent.
    """
    return asyncio.run(_ask_all(nodes, inquiry, watch))


async def _ask_all(nodes: Sequence[Node], inquiry: Inquiry, watch: Callable[[str], None]) -> Report:
    if any(node.engine in SERVED for node in nodes):
        server_side()  # told before anything is sent if it is missing
    urls = [url_of(node) for node in nodes]
    seen = await asyncio.gather(*(asyncio.to_thread(_looked, url, min(CONNECT, inquiry.patience)) for url in urls))
    found = []
    for node, url, sight in zip(nodes, urls, seen, strict=True):
        watch(node.name)
        found.append(await _ask(node, url, sight, inquiry))
    marks = await _marks(nodes, found)
    identity = identify(
        sighting(node, url, sight, each.placement, mark)
        for node, url, sight, each, mark in zip(nodes, urls, seen, found, marks, strict=True)
    )
    for each in found:
        each.host = identity.host_of(each.node).name
        each.device = identity.device_of(each.node).name
        each.same_server = identity.twins_of(each.node)
    return Report(nodes=tuple(found), identity=identity)


def url_of(node: Node) -> Url | None:
    """Where a server is; None for an engine of this machine."""
    if node.engine not in SERVED:
        return None
    from tokenmill.engine.http.address import address_of

    address = address_of(node, os.environ)
    return read_url(address.origin + address.path)


def _looked(url: Url | None, patience: float) -> Seen:
    return Seen(is_here=True) if url is None else look(url, patience)


async def _ask(node: Node, url: Url | None, sight: Seen, inquiry: Inquiry) -> Found:
    address = f"{node.engine}:{node.target}" if url is None else str(url)
    found = Found(node=node.name, address=address, engine=node.engine, round_trip=sight.round_trip, fault=sight.fault)
    if found.fault:
        return found
    try:
        async with asyncio.timeout(inquiry.patience):
            if url is None:
                _tell(found, _engine(node, inquiry).survey())
                found.slots_in_words = str(found.slots)
            else:
                await _ask_server(node, url, found, inquiry)
    except TimeoutError:
        found.fault = f"it was not done in {inquiry.patience:g} s; raise --timeout if it is slow"
    except EngineError as error:
        found.fault = error.message
    except TokenmillError as error:
        found.fault = str(error)
    return found


async def _ask_server(node: Node, url: Url, found: Found, inquiry: Inquiry) -> None:
    server = server_side()
    found.engine = await server.kind_of(node)
    found.models = await server.models_of(node, found.engine)
    wanted = node.model or inquiry.model
    if wanted is None and len(found.models) > 1:
        found.note = "it holds several models; name one with --model to measure slots"
        return
    engine = _engine(replace(node, engine=found.engine, target=str(url)), inquiry)
    if not inquiry.most:
        _tell(found, await asyncio.to_thread(engine.survey))
        found.slots = None
        return
    try:
        _tell(found, await engine.open())
        ramp = Ramp(inquiry.most)
        found.slots_in_words = "n/a"
        try:
            await ramped(engine, ramp)
        finally:
            _tell_ramp(found, ramp)
    finally:
        await engine.close()


def server_side() -> ModuleType:
    """What asks servers, imported only now: it needs the HTTP library, which is an extra."""
    try:
        return import_module("tokenmill.driver.ask_server")
    except ModuleNotFoundError as error:
        raise UsageError(f"servers are asked with {error.name}: pip install 'tokenmill[http]'") from error


def _engine(node: Node, inquiry: Inquiry) -> Engine:
    slots = inquiry.most if node.engine in SERVED and inquiry.most else None
    settings = Settings(model=inquiry.model, slots=slots)
    return make_engine(node, Options(workload=Spec(source="")), settings)


def _tell(found: Found, facts: EngineFacts) -> None:
    found.model, found.digest, found.version = facts.model, facts.digest, facts.version
    found.context, found.placement, found.slots = facts.context, facts.placement, facts.slots
    found.models = found.models or (facts.model,)


def _tell_ramp(found: Found, ramp: Ramp) -> None:
    found.slots, found.slots_in_words = ramp.slots, words(ramp)
    found.tokens_per_second, found.first_token = ramp.pace, ramp.first_token


async def _marks(nodes: Sequence[Node], found: Sequence[Found]) -> list[tuple[Mark, ...]]:
    """What each server shows that only one process can; nothing for those that can't be asked."""
    reached = [
        node if node.engine in SERVED and each.round_trip is not None else None
        for node, each in zip(nodes, found, strict=True)
    ]
    if not any(reached):
        return [() for _ in nodes]
    marks: list[tuple[Mark, ...]] = await server_side().marks_of(reached)
    return marks


def sighting(node: Node, url: Url | None, seen: Seen, placement: str, marks: tuple[Mark, ...]) -> Sighting:
    """The evidence about a node, as `identify` takes it."""
    kind = placement.lower()
    common = Sighting(
        node=node.name,
        is_here=seen.is_here,
        host=node.host,
        devices=frozenset(node.device.split(DEVICES)) if node.device else frozenset(),
        placement=PROCESSOR if url is None else kind if kind in ("cpu", "gpu") else "",
        addresses=frozenset(seen.addresses),
        marks=marks,
        round_trip=seen.round_trip,
    )
    return common if url is None else replace(common, place=url.host, port=url.port, path=url.path)

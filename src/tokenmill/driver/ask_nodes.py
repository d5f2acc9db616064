"""Asks nodes what they are: one after the other, so that none is measured while another keeps shared hardware busy."""

from __future__ import annotations

import asyncio
import os
import time
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
from tokenmill.engine.http.apart import run_apart
from tokenmill.errors import EngineError, TokenmillError, UsageError
from tokenmill.plan.figures import Figure, steps_of
from tokenmill.plan.identity import Identity, Mark, Sighting, identify
from tokenmill.plan.inventory import DEVICES
from tokenmill.plan.ramp import Ramp, words
from tokenmill.plan.url import Url, read_url
from tokenmill.record.folder import versions
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


class Place(Struct, frozen=True):
    """A node, where it is (None: in this machine), and what was seen of it from here."""

    node: Node
    url: Url | None
    seen: Seen

    @property
    def is_reached(self) -> bool:
        return self.url is not None and self.seen.round_trip is not None


class Asked(Struct, kw_only=True):
    """What came of asking a node: `found` for people, and what figures are made from."""

    found: Found
    facts: EngineFacts | None = None
    ramp: Ramp | None = None


class Report(Struct, frozen=True, kw_only=True):
    """All nodes in the order asked for, how they belong together, and the figures that are worth keeping."""

    nodes: tuple[Found, ...]
    identity: Identity
    figures: tuple[Figure, ...] = ()


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


def identity_of(nodes: Sequence[Node]) -> Identity:
    """How nodes belong together, by looking at them without sending a request; may be called inside an event loop."""

    async def look() -> Identity:
        places = await _look_at(nodes, CONNECT)
        return identify(await _sightings(places, [""] * len(nodes)))

    return run_apart(look)


async def _ask_all(nodes: Sequence[Node], inquiry: Inquiry, watch: Callable[[str], None]) -> Report:
    places = await _look_at(nodes, min(CONNECT, inquiry.patience))
    asked = []
    for place in places:
        watch(place.node.name)
        asked.append(await _ask(place, inquiry))
    found = [each.found for each in asked]
    sightings = await _sightings(places, [each.placement for each in found])
    identity = identify(sightings)
    for each in found:
        each.host = identity.host_of(each.node).name
        each.device = identity.device_of(each.node).name
        each.same_server = identity.twins_of(each.node)
    return Report(nodes=tuple(found), identity=identity, figures=_figures(asked, sightings))


async def _look_at(nodes: Sequence[Node], patience: float) -> list[Place]:
    if any(node.engine in SERVED for node in nodes):
        server_side()  # told before anything is sent if it is missing
    urls = [url_of(node) for node in nodes]
    seen = await asyncio.gather(*(asyncio.to_thread(_looked, url, patience) for url in urls))
    return [Place(*each) for each in zip(nodes, urls, seen, strict=True)]


def _figures(asked: Sequence[Asked], sightings: Sequence[Sighting]) -> tuple[Figure, ...]:
    """Of nodes whose pace was measured, and of engines of this machine, which only runs measure."""
    now, made = time.strftime("%Y-%m-%dT%H:%M:%S%z"), versions()
    return tuple(
        Figure(
            node=each.found.node,
            address=each.found.address,
            engine=each.found.engine,
            model=each.facts.model,
            digest=each.facts.digest,
            host=each.facts.host,
            device=each.facts.device,
            checked=now,
            sighting=its,
            version=each.facts.version,
            context=each.facts.context,
            slots=each.found.slots,
            is_full=each.ramp is None or each.ramp.is_full,
            first_token=each.found.first_token,
            steps=steps_of(each.ramp.bursts) if each.ramp is not None else (),
            versions=made,
        )
        for each, its in zip(asked, sightings, strict=True)
        if each.facts is not None and not each.found.fault and each.found.slots is not None
    )


async def _sightings(places: Sequence[Place], placements: Sequence[str]) -> list[Sighting]:
    """Reads the marks after everything else, as requests move an expiry on."""
    marks: list[tuple[Mark, ...]] = [() for _ in places]
    reached = [place.node if place.is_reached else None for place in places]
    if any(reached):
        marks = await server_side().marks_of(reached)
    return list(map(sighting, places, placements, marks))


def url_of(node: Node) -> Url | None:
    """Where a server is; None for an engine of this machine."""
    if node.engine not in SERVED:
        return None
    from tokenmill.engine.http.address import address_of

    address = address_of(node, os.environ)
    return read_url(address.origin + address.path)


def _looked(url: Url | None, patience: float) -> Seen:
    return Seen(is_here=True) if url is None else look(url, patience)


async def _ask(place: Place, inquiry: Inquiry) -> Asked:
    node, url, seen = place.node, place.url, place.seen
    address = f"{node.engine}:{node.target}" if url is None else str(url)
    found = Found(node=node.name, address=address, engine=node.engine, round_trip=seen.round_trip, fault=seen.fault)
    asked = Asked(found=found)
    if found.fault:
        return asked
    try:
        async with asyncio.timeout(inquiry.patience):
            if url is None:
                _tell(asked, engine_of(node, inquiry).survey())
                found.slots_in_words = str(found.slots)
            else:
                await _ask_server(node, url, asked, inquiry)
    except TimeoutError:
        found.fault = f"it was not done in {inquiry.patience:g} s; raise --timeout if it is slow"
    except EngineError as error:
        found.fault = error.message
    except TokenmillError as error:
        found.fault = str(error)
    return asked


async def _ask_server(node: Node, url: Url, asked: Asked, inquiry: Inquiry) -> None:
    server, found = server_side(), asked.found
    found.engine = await server.kind_of(node)
    found.models = await server.models_of(node, found.engine)
    wanted = node.model or inquiry.model
    if wanted is None and len(found.models) > 1:
        found.note = "it holds several models; name one with --model to measure slots"
        return
    engine = engine_of(replace(node, engine=found.engine, target=str(url)), inquiry)
    if not inquiry.most:
        _tell(asked, await asyncio.to_thread(engine.survey))
        found.slots = None
        return
    try:
        _tell(asked, await engine.open())
        asked.ramp = ramp = Ramp(inquiry.most)
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


def engine_of(node: Node, inquiry: Inquiry) -> Engine:
    """The engine of a node, not opened yet, with room for the widest burst."""
    slots = inquiry.most if node.engine in SERVED and inquiry.most else None
    settings = Settings(model=inquiry.model, slots=slots)
    return make_engine(node, Options(workload=Spec(source="")), settings)


def _tell(asked: Asked, facts: EngineFacts) -> None:
    found, asked.facts = asked.found, facts
    found.model, found.digest, found.version = facts.model, facts.digest, facts.version
    found.context, found.placement, found.slots = facts.context, facts.placement, facts.slots
    found.models = found.models or (facts.model,)


def _tell_ramp(found: Found, ramp: Ramp) -> None:
    found.slots, found.slots_in_words = ramp.slots, words(ramp)
    found.tokens_per_second, found.first_token = ramp.pace, ramp.first_token


def sighting(place: Place, placement: str, marks: tuple[Mark, ...]) -> Sighting:
    """The evidence about a node, as `identify` takes it."""
    node, url, seen = place.node, place.url, place.seen
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

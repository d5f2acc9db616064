"""What a session takes of this machine, from the sampler into the record."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import msgspec

from tokenmill.clock import Clock
from tokenmill.cluster import Node
from tokenmill.driver.ask_nodes import url_of
from tokenmill.driver.station import Station
from tokenmill.driver.witness import is_own
from tokenmill.engine import StartsProcesses
from tokenmill.footprint import Footprint, OwnProcess
from tokenmill.launch.crew import Crew
from tokenmill.plan.url import canonical, is_loopback
from tokenmill.record.writer import Writer
from tokenmill.resources import Sampler


class Metering:
    """One session's sampling; what it writes each time takes the place of what it wrote before."""

    def __init__(self, stations: Sequence[Station], clock: Clock, session: int, crew: Crew | None = None) -> None:
        self._stations = stations
        self._crew = crew
        self.session = session
        elsewhere = tuple(station.node.name for station in stations if not is_here(station.node))
        self._sampler = Sampler(clock, self._fresh, elsewhere=elsewhere)

    def start(self, writer: Writer) -> None:
        def write(footprint: Footprint) -> None:
            writer.put(("footprint", (self.session, msgspec.json.encode(footprint))))

        self._sampler.start(write)

    def finish(self) -> None:
        """Once engines are closed and launched workers gone: the system has said what their processes took."""
        self._sampler.finish()

    def _fresh(self) -> Iterator[tuple[str, OwnProcess]]:
        for station in self._stations:
            if isinstance(station.engine, StartsProcesses):
                for process in station.engine.fresh_processes():
                    yield f"worker of {station.node.name}", process
        if self._crew is not None:
            yield from self._crew.fresh_processes()


def is_here(node: Node) -> bool:
    """Whether a node is part of this machine, by its address alone; the far end of a tunnel can't be told from here.

    A host named in the inventory says more than the address. A name that isn't this machine's own counts as elsewhere,
    because the energy of another machine must never pass for ours.
    """
    own = {"localhost", socket.gethostname()}
    if node.host is not None:
        return node.host in own
    url = url_of(node)
    return url is None or is_loopback(url.host) or url.host in own or _is_own_address(url.host)


def _is_own_address(host: str) -> bool:
    try:
        address = canonical(host)
        socket.getaddrinfo(address, None, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        return False  # a name, which is not resolved: that may take long, and change
    return is_own(address)

"""What this machine can tell of a server's address: what it resolves to, whether it is our own, how far it is.

Whether an address is our own is asked of the kernel's routes and not of a list of interfaces: it sends to its own
addresses from those same addresses. That needs no library, works on every system, and sends nothing.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress

from msgspec import Struct

from tokenmill.engine.http.address import is_guarded
from tokenmill.plan.url import Url, canonical, is_loopback

#: Connects of which the fastest counts; the first may have to find its way.
CONNECTS = 3


class Seen(Struct, frozen=True, kw_only=True):
    """`round_trip`: seconds of the fastest connect, None if there was none; `fault` then says why."""

    addresses: tuple[str, ...] = ()
    is_here: bool = False
    round_trip: float | None = None
    fault: str = ""


def look(url: Url, patience: float) -> Seen:
    """Resolves and connects; blocking, for at most `patience` seconds a connect (a resolver takes its own time)."""
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return Seen(fault=f"the name {url.host!r} can't be resolved ({getattr(error, 'strerror', None) or error})")
    addresses = tuple(dict.fromkeys(canonical(str(each[4][0])) for each in found))
    here = is_loopback(url.host) or any(is_own(address) for address in addresses)
    guarded = [address for address in addresses if is_guarded(address) and canonical(url.host) != address]
    if guarded:
        return Seen(addresses=addresses, is_here=here, fault=f"leads to {guarded[0]}, a link-local or metadata address")
    trips, fault = [], ""
    for _ in range(CONNECTS):
        try:
            trips.append(_connect(addresses, url.port, patience))
        except OSError as error:
            fault = "no connection within " + f"{patience:g} s" if isinstance(error, TimeoutError) else _reason(error)
            break
    return Seen(addresses=addresses, is_here=here, round_trip=min(trips, default=None), fault="" if trips else fault)


def is_own(address: str) -> bool:
    """Whether an IP address is one of this machine's."""
    if is_loopback(address):
        return True
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # a datagram socket sends nothing when it connects
        return canonical(str(probe.getsockname()[0])) == canonical(address)
    return False


def _connect(addresses: tuple[str, ...], port: int, patience: float) -> float:
    """Seconds until one of the addresses accepts."""
    last: OSError = OSError("no address")
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.settimeout(patience)
                start = time.perf_counter()
                probe.connect((address, port))
                return time.perf_counter() - start
        except OSError as error:
            last = error
    raise last


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()

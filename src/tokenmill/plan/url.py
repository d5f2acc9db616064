"""The URL of a server, checked and in one spelling, so that two spellings of one server are seen to be equal.

Messages never repeat a URL that holds a login or a query, as either may hold a key.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from msgspec import Struct

PORTS = {"http": 80, "https": 443}
EXAMPLE = "write http://HOST:PORT"
#: Names that every system gives to itself.
LOOPBACK_NAMES = ("localhost", "ip6-localhost", "localhost.localdomain")


class Url(Struct, frozen=True):
    """Scheme, host in lower case (an IP address in its shortest form), port and path without a slash at its end."""

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Whether it names this machine by itself, without asking anybody what the name means."""
        return is_loopback(self.host)


def read_url(text: str) -> Url:
    """Raises `ValueError` with what is wrong, for the caller to add the place."""
    scheme = text.partition(":")[0].lower()
    if scheme not in PORTS or "//" not in text:
        raise ValueError(f"{_shown(text)} is no URL of a server; {EXAMPLE}")
    if not text.isprintable() or " " in text:
        raise ValueError(f"the URL holds a space or a control character; {EXAMPLE}")
    try:
        parts = urlsplit(text)
        port = parts.port or PORTS[scheme]
    except ValueError as error:
        raise ValueError(f"{_shown(text)} is no valid URL ({error}); {EXAMPLE}") from error
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL holds a login; leave it out and name the key as key = 'env:NAME' or 'file:PATH'")
    if parts.query or parts.fragment:
        raise ValueError(f"the URL holds a query or a fragment; leave it out: {EXAMPLE}")
    if not parts.hostname:
        raise ValueError(f"{_shown(text)} names no host; {EXAMPLE}")
    return Url(scheme, canonical(parts.hostname), port, parts.path.rstrip("/"))


def canonical(host: str) -> str:
    """An IP address in its shortest form, IPv4 inside IPv6 as IPv4; a name in lower case without the root's dot."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower().removesuffix(".")
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def is_loopback(host: str) -> bool:
    """Whether a canonical host is this machine as it calls itself: its loopback names and addresses, and 0.0.0.0."""
    if host in LOOPBACK_NAMES or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _shown(text: str) -> str:
    """The text as far as it can be shown: what stands before an @ or after a ? may be secret."""
    if "@" in text or "?" in text or "#" in text:
        return "the URL (not shown, as it may hold a key)"
    return repr(text if len(text) <= 80 else text[:77] + "...")

"""Where a node is: its URL, checked once, and the addresses that are refused.

URLs come from the operator only: from `--node`, an inventory, OLLAMA_HOST or OPENAI_BASE_URL. A name that resolves to a
link-local or cloud metadata address is refused when it is connected to; such an address written out is the operator's
own will and is used.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from tokenmill.cluster import Node
from tokenmill.errors import UsageError

OLLAMA_PORT = 11434
OPENAI_BASE = "https://api.openai.com/v1"
PORTS = {"http": 80, "https": 443}
#: Metadata services outside the link-local ranges.
METADATA = frozenset({ipaddress.ip_address("100.100.100.200"), ipaddress.ip_address("fd00:ec2::254")})


class Address(Struct, frozen=True, kw_only=True):
    """A checked URL: `origin` is scheme, host and port (left out if it is the scheme's own), `path` what follows."""

    origin: str
    host: str
    port: int
    path: str = ""

    @property
    def is_secure(self) -> bool:
        return self.origin.startswith("https:")


def address_of(node: Node, environment: Mapping[str, str]) -> Address:
    """The address a node's target means, with the defaults of its kind.

    Raises:
        UsageError: the target is no URL that may be used.
    """
    place = f"node {node.name!r}"
    text = node.target.strip()
    if node.engine in PORTS:
        return parse_url(place, f"{node.engine}:{text}" if text.startswith("//") else text)
    if node.engine == "ollama":
        if not text:
            place, text = "OLLAMA_HOST", environment.get("OLLAMA_HOST", "").strip() or "127.0.0.1"
        return _reachable(parse_url(place, text if "://" in text else _with_port(place, text)))
    if not text:
        place, text = "OPENAI_BASE_URL", environment.get("OPENAI_BASE_URL", "").strip() or OPENAI_BASE
    return parse_url(place, text if "://" in text else f"http://{text}")


def parse_url(place: str, text: str) -> Address:
    """The address of an http or https URL. What is refused is told without a login that the URL may hold."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{place}: the URL can't be read; write http://HOST:PORT") from error
    if parts.scheme not in PORTS or not host or not host.isprintable() or " " in host:
        raise UsageError(f"{place}: {_shown(parts)!r} is no address of a server; write http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"{place}: the URL of {host} holds a login, which would end up in records; give the key as env:NAME or "
            "file:PATH"
        )
    if parts.query or parts.fragment:
        raise UsageError(f"{place}: the URL of {host} has a query or fragment; leave out what follows the path")
    own = PORTS[parts.scheme]
    shown = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{shown}" + ("" if port in (None, own) else f":{port}")
    return Address(origin=origin, host=host, port=own if port is None else port, path=parts.path.rstrip("/"))


def is_guarded(text: str) -> bool:
    """Whether a name must not lead to this address: link-local, or a metadata service of a cloud."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    return address.is_link_local or address in METADATA


def _with_port(place: str, text: str) -> str:
    """`HOST` or `HOST:PORT` as a URL; Ollama's port is the default, as in its own tools."""
    bare = parse_url(place, f"http://{text}")
    if urlsplit(f"http://{text}").port is not None:
        return f"http://{text}"
    shown = f"[{bare.host}]" if ":" in bare.host else bare.host
    return f"http://{shown}:{OLLAMA_PORT}{bare.path}"


def _reachable(address: Address) -> Address:
    """OLLAMA_HOST may be what a server listens on: every address. A client means this machine by it."""
    if address.host not in ("0.0.0.0", "::"):
        return address
    scheme = address.origin.partition(":")[0]
    here = "127.0.0.1" if address.host == "0.0.0.0" else "[::1]"
    return parse_url("OLLAMA_HOST", f"{scheme}://{here}:{address.port}{address.path}")


def _shown(parts: SplitResult) -> str:
    """A URL without whatever stands before an @."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else parts.path[:80]

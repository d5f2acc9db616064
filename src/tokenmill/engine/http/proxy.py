"""The proxy between a node and us, used only where somebody named one: variables alone divert nothing.

A node's `proxy`, or the run's, is one of

    http://HOST:PORT      a proxy without a login
    env:NAME, file:PATH   where its URL is found, which may then hold a login: http://USER:PASSWORD@HOST:PORT
    env                   HTTPS_PROXY or HTTP_PROXY, by the node's scheme, else ALL_PROXY; NO_PROXY names exceptions
    none                  no proxy, where the run has one

To an https node the proxy gives a tunnel (CONNECT) and sees neither key nor text. To an http node it sees everything,
so a node with a key is refused there. Names are then resolved by the proxy, and addresses are its to guard.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from tokenmill.cluster import Node
from tokenmill.engine.http.address import Address
from tokenmill.engine.http.key import STARS, Key, Veiled, secret_at
from tokenmill.errors import UsageError

PORT = 3128
FORMS = "http://HOST:PORT, env, none, or env:NAME or file:PATH for one with a login"


class Proxy:
    """Where it is, as `url`, and how it knows us, which can't be printed by accident."""

    __slots__ = ("_password", "_user", "url")

    def __init__(self, url: str, user: str = "", password: str = "") -> None:
        self.url = url
        self._user, self._password = Veiled(user), Veiled(password)

    def __repr__(self) -> str:
        return f"Proxy({self.url!r}{', ' + STARS if self._user else ''})"

    @property
    def has_login(self) -> bool:
        return bool(self._user)

    def header(self) -> str:
        login = f"{self._user}:{self._password}".encode()
        return Veiled(f"Basic {base64.b64encode(login).decode()}")

    def scrub(self, text: str) -> str:
        """The text without the password."""
        return text.replace(self._password, STARS) if self._password else text


def find_proxy(node: Node, address: Address, key: Key | None, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy to a node, None if it is reached directly.

    Raises:
        UsageError: it is no URL of a proxy, or would see the node's key.
    """
    given, may_login = node.proxy, True
    if given is None or given == "none":
        return None
    if given == "env":
        text = _of_environment(address, environment)
        if not text:
            return None
    elif given.startswith(("env:", "file:")):
        text = secret_at(node, given, environment, "proxy")
    else:
        text, may_login = given, False
    proxy = _parsed(node, text, may_login=may_login)
    if key is not None and not address.is_secure:
        raise UsageError(
            f"node {node.name!r}: its key would pass the proxy {proxy.url} in the clear; name an https URL of the "
            "node, or reach it without a proxy (proxy none)"
        )
    return proxy


def _of_environment(address: Address, environment: Mapping[str, str]) -> str:
    """What the variables say for this node; small letters go first, as in other tools."""

    def value(name: str) -> str:
        return (environment.get(name.lower()) or environment.get(name.upper()) or "").strip()

    if any(_is_meant(address, entry.strip().lower()) for entry in value("no_proxy").split(",")):
        return ""
    return value("https_proxy" if address.is_secure else "http_proxy") or value("all_proxy")


def _is_meant(address: Address, entry: str) -> bool:
    """Whether an entry of NO_PROXY names this node: `*`, its name or address, or the end of its name after a dot."""
    if entry in ("*", address.host, f"{address.host}:{address.port}"):
        return True
    tail = entry.removeprefix("*").removeprefix(".")
    return bool(tail) and address.host.endswith(f".{tail}")


def _parsed(node: Node, text: str, *, may_login: bool) -> Proxy:
    """The proxy of a URL. What is refused is told without the URL, which may hold a login."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme != "http" or not host or not host.isprintable() or " " in host:
        raise UsageError(f"node {node.name!r}: its proxy is no http URL of a proxy; give {FORMS}")
    if parts.username is not None and not may_login:
        raise UsageError(
            f"node {node.name!r}: the URL of its proxy {host} holds a login, which would end up in records; put the "
            "URL into a variable or a file of mode 0600, and give env:NAME or file:PATH"
        )
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if ":" in user:
        raise UsageError(f"node {node.name!r}: the user in the URL of its proxy {host} holds a colon; correct the URL")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(
            f"node {node.name!r}: the URL of its proxy {host} has more than a host and a port; leave it out"
        )
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{PORT if port is None else port}"
    return Proxy(url, user, password)

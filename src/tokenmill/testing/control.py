"""The control door: what each server saw, and changes while it runs.

`GET /__control/NAME?server=SERVER` reads `state`, `trail`, `prompts` or `requests`. `POST` changes: `behaviour` with
the fields to change, `change` with a `[[change]]`, `forget` to count from the start. Each server has the same paths on
its own port, which then mean itself; the control door has a port of its own because a server may be down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from tokenmill.errors import UsageError
from tokenmill.testing.behaviour import Change, changed
from tokenmill.testing.connection import Connection, Heard
from tokenmill.testing.ledger import State
from tokenmill.testing.voice import Reply, reply_json

if TYPE_CHECKING:
    from tokenmill.testing.site import Site

PREFIX = "/__control/"
KEPT_HEADERS = ("host", "content-type", "accept", "accept-encoding", "user-agent", "connection")


def controlled(site: Site, heard: Heard) -> Reply:
    """The reply of one server to a control request."""
    name = heard.path.removeprefix(PREFIX)
    try:
        if heard.method == "GET" and name in READERS:
            return reply_json(READERS[name](site))
        if heard.method == "POST" and name == "behaviour":
            site.adopt(changed(site.behaviour, msgspec.json.decode(heard.body, type=dict[str, Any])))
            return reply_json({})
        if heard.method == "POST" and name == "forget":
            site.forget()
            return reply_json({})
        if heard.method == "POST" and name == "change":
            site.change(msgspec.json.decode(heard.body, type=Change))
            return reply_json({})
    except (UsageError, msgspec.DecodeError) as problem:
        return reply_json({"error": str(problem)}, 400)
    return reply_json({"error": f"no control path {heard.path} for {heard.method}"}, 404)


def read_state(site: Site) -> State:
    state = site.ledger.read(site.loop.time())
    state.url, state.up = site.listener.url, site.listener.is_up
    state.connections = len(site.listener.connections)
    return state


def read_prompts(site: Site) -> dict[str, Any]:
    return msgspec.to_builtins(site.ledger.prompts)  # type: ignore[no-any-return]  # plain data of a known dict


def read_requests(site: Site) -> list[dict[str, Any]]:
    """The last requests with their bodies; of the headers only those that can't hold a secret."""
    return [
        {
            "method": heard.method,
            "path": heard.path,
            "authorization": authorization,
            "headers": {name: value for name, value in heard.headers.items() if name in KEPT_HEADERS},
            "body": heard.body.decode("utf-8", "replace"),
        }
        for heard, authorization in site.ledger.heard
    ]


def read_trail(site: Site) -> list[tuple[float, int, int]]:
    return list(site.ledger.trail)


READERS = {"state": read_state, "trail": read_trail, "prompts": read_prompts, "requests": read_requests}


class ControlDoor:
    """Answers control requests for all servers of the process."""

    def __init__(self, sites: Mapping[str, Site]) -> None:
        self._sites = sites

    def opened(self, connection: Connection) -> None:
        pass

    def closed(self, connection: Connection) -> None:
        pass

    def handle(self, connection: Connection, heard: Heard) -> None:
        name = parse_qs(heard.query).get("server", [next(iter(self._sites))])[0]
        site = self._sites.get(name)
        if site is None:
            connection.reply(reply_json({"error": f"no server {name!r}; known: {', '.join(self._sites)}"}, 404))
        else:
            connection.reply(controlled(site, heard))

"""The inventory: nodes under names, in a TOML file that people write and edit by hand as well.

    [[node]]
    name = "gpu-a"
    url = "http://10.0.0.5:11434"     # or local:MODEL, scripted:FILE
    engine = "ollama"                 # left out: the server is asked what it is
    host = "box-1"                    # left out: found by evidence
    device = "gpu:0"                  # or a list, if one node computes on several
    priority = 0                      # 0 before 1
    key = "env:NAME"                  # or file:PATH; never the key itself
    model = "llama3.2"                # where it differs from the run's
    proxy = "http://10.0.0.1:3128"    # or env, none, env:NAME, file:PATH; left out: the run's

Reading is strict and tells all faults together. No message repeats the value of a field that may hold a secret.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from msgspec import Struct

from tokenmill.cluster import Node
from tokenmill.errors import InputFaults
from tokenmill.plan.url import PORTS, Url, read_url

#: Stands for all nodes of the inventory, so no node has this name.
ALL = "all"
#: Separates the devices of a node that computes on several.
DEVICES = ","
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KEY = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)")
_PROXY = re.compile(r"none|env|env:[A-Za-z_][A-Za-z0-9_]*|file:.+|http://[^\s/?#@]+/?")
NAME_RULE = "use letters, digits, '.', '_' and '-', starting with a letter or digit, and not 'all'"


class Entry(Struct, frozen=True, kw_only=True):
    """One node as the inventory holds it; `url` is a server's, or KIND:TARGET of an engine of this machine."""

    name: str
    url: str
    engine: str | None = None
    host: str | None = None
    device: tuple[str, ...] = ()
    priority: int = 0
    key: str | None = None
    model: str | None = None
    proxy: str | None = None

    @property
    def server(self) -> Url | None:
        """The server's URL; None for an engine of this machine."""
        return read_url(self.url) if is_server(self.url) else None

    @property
    def node(self) -> Node:
        kind, _, target = self.url.partition(":")
        if self.engine is not None and is_server(self.url):
            kind, target = self.engine, self.url
        return Node(
            name=self.name,
            engine=kind,
            target=target,
            model=self.model,
            key=self.key,
            host=self.host,
            device=DEVICES.join(self.device) or None,
            priority=self.priority,
            proxy=self.proxy,
        )


FIELDS = tuple(Entry.__struct_fields__)


def is_server(url: str) -> bool:
    return url.partition(":")[0].lower() in PORTS


def is_name(text: str) -> bool:
    """Whether a node may be called this."""
    return _NAME.fullmatch(text) is not None and text != ALL


def read(text: str, source: str, kinds: Collection[str]) -> tuple[Entry, ...]:
    """The nodes of an inventory; `kinds` are the engines there are, `source` is what to call the file.

    Raises:
        InputFaults: everything that is wrong with the file.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputFaults(source, [f"is no TOML: {error}; correct that line"]) from error
    faults = [f"{key!r} is not known here; nodes are [[node]] tables" for key in data if key != "node"]
    tables = data.get("node", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputFaults(source, [*faults, "node must be tables: write [[node]] above the fields of each"])
    entries = checked(tables, kinds, faults)
    if faults:
        raise InputFaults(source, faults)
    return entries


def checked(tables: Sequence[Mapping[str, Any]], kinds: Collection[str], faults: list[str]) -> tuple[Entry, ...]:
    """The entries that the tables hold; what is wrong is added to `faults`."""
    entries: list[tuple[str, Entry]] = []
    for number, table in enumerate(tables, start=1):
        name = table.get("name")
        place = f"node {number}" + (f" ({_shown(name)})" if isinstance(name, str) else "")
        found = _Table(place, table, faults).entry(kinds)
        if found is not None:
            _check_new(place, found, entries, faults)
            entries.append((place, found))
    return tuple(entry for _, entry in entries)


def _check_new(place: str, entry: Entry, before: list[tuple[str, Entry]], faults: list[str]) -> None:
    for other_place, other in before:
        if other.name == entry.name:
            faults.append(f"{place}: the name is that of {other_place} already; give it another")
        if entry.server is not None and entry.server == other.server:
            faults.append(f"{place}: {entry.server} is {other_place} already; list a server once")


class _Table:
    """Reads one table; each fault is noted with its place and the way out."""

    def __init__(self, place: str, values: Mapping[str, Any], faults: list[str]) -> None:
        self._place = place
        self._values = values
        self._faults = faults

    def entry(self, kinds: Collection[str]) -> Entry | None:
        """The entry, None if anything is wrong with it."""
        before = len(self._faults)
        for field in self._values:
            if field not in FIELDS:
                near = get_close_matches(field, FIELDS, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                self._fault(f"field {_shown(field)} is not known; {hint}known: {', '.join(FIELDS)}")
        name, url = self._name(), self._url(kinds)
        engine, host, model = self._engine(kinds), self._text("host"), self._text("model")
        device, priority, key, proxy = self._devices(), self._priority(), self._key(), self._proxy()
        if name is None or url is None or len(self._faults) > before:
            return None
        return Entry(
            name=name,
            url=url,
            engine=engine,
            host=host,
            device=device,
            priority=priority,
            key=key,
            model=model,
            proxy=proxy,
        )

    def _fault(self, text: str) -> None:
        self._faults.append(f"{self._place}: {text}")

    def _text(self, field: str, *, required: str = "") -> str | None:
        value = self._values.get(field)
        if value is None:
            if required:
                self._fault(f"{field} is missing; {required}")
            return None
        if not isinstance(value, str) or not value or not value.isprintable():
            self._fault(f"{field} must be a text of printable letters")
            return None
        return value

    def _name(self) -> str | None:
        name = self._text("name", required=NAME_RULE)
        if name is not None and not is_name(name):
            self._fault(f"name {_shown(name)} can't be used; {NAME_RULE}")
        return name

    def _url(self, kinds: Collection[str]) -> str | None:
        url = self._text("url", required="give http://HOST:PORT")
        if url is None:
            return None
        kind, colon, _ = url.partition(":")
        if colon and kind in set(kinds) - set(PORTS):
            if "http://" in url or "https://" in url:
                self._fault(f"the url begins with {kind!r}; give the URL alone, and engine = {kind!r}")
            return url
        try:
            return str(read_url(url))
        except ValueError as error:
            self._fault(f"url: {error}")
            return None

    def _engine(self, kinds: Collection[str]) -> str | None:
        engine = self._text("engine")
        known = sorted(set(kinds) - set(PORTS))
        if engine is not None and engine not in known:
            self._fault(f"engine {_shown(engine)} is not known; known: {', '.join(known)}; left out, it is found")
        return engine

    def _devices(self) -> tuple[str, ...]:
        value = self._values.get("device", [])
        devices = [value] if isinstance(value, str) else value
        fits = isinstance(devices, list) and all(isinstance(each, str) and each.isprintable() for each in devices)
        if not fits or not all(each and DEVICES not in each for each in devices):
            self._fault("device must be a text such as 'gpu:0', without a comma, or a list of them")
            return ()
        return tuple(devices)

    def _priority(self) -> int:
        value = self._values.get("priority", 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1000:
            self._fault("priority must be a whole number from 0 (first) to 1000")
            return 0
        return value

    def _key(self) -> str | None:
        """Where the key is found. What stands here may be the key itself, so it is never repeated."""
        value = self._values.get("key")
        if value is None:
            return None
        if not isinstance(value, str) or not _KEY.fullmatch(value):
            self._fault(
                "key must say where the key is found, env:NAME or file:PATH; a key itself doesn't belong here: "
                "put it into an environment variable or a file of mode 0600"
            )
            return None
        return value

    def _proxy(self) -> str | None:
        """How the node is reached. A URL may hold a login, so it is never repeated."""
        value = self._values.get("proxy")
        if value is None:
            return None
        if not isinstance(value, str) or not _PROXY.fullmatch(value):
            self._fault(
                "proxy must be http://HOST:PORT, env, none, or env:NAME or file:PATH where its URL is found; a login "
                "belongs there and not here"
            )
            return None
        return value


def _shown(value: str) -> str:
    return ascii(value if len(value) <= 60 else value[:57] + "...")

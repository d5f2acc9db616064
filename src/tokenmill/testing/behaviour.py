"""How a server behaves: one struct, which is also the TOML file, checked when read.

A file describes one server, or several in `[[server]]` tables, each taking what it doesn't say from the top of the
file. Servers that name the same `device` share it; `[device.NAME]` says how its pace falls with load.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from tokenmill.errors import UsageError
from tokenmill.testing.fault import AnyFault

Api = Literal["ollama", "openai"]
#: What can't be changed while a server runs.
FIXED = ("name", "address", "port", "device", "honest", "certificate", "private_key", "loaded", "change")


def at_least(name: str, value: float, least: float) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}; give at least {least}")


class Curve(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to a device's pace when several requests run on it; the plain curve is that nothing happens.

    Each of `n` requests runs at `1 / (1 + serial * (n - 1) + coherence * n * (n - 1))` of the pace of one alone, the
    universal scalability law, by which the simulator goes too. `serial` makes the pace fall with load, 1 is a device
    that is full with one; `coherence` gives the throughput a knee beyond which it declines. With `m` servers at work on
    the device the pace is further divided by `1 + crowding * (m - 1)`.
    """

    serial: float = 0.0
    coherence: float = 0.0
    crowding: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            at_least(name, getattr(self, name), 0)

    def share(self, running: int, servers: int) -> float:
        """The pace of each of `running` requests relative to one alone."""
        if running < 2:
            return 1.0
        load = 1 + self.serial * (running - 1) + self.coherence * running * (running - 1)
        return 1 / (load * (1 + self.crowding * (servers - 1)))


class Change(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that changes while the server runs, after `at` seconds or with the request for text number `request`.

    `every`: again after as many seconds. `down`: stop listening and reset all connections, or return. `unload`: the
    model leaves memory. The rest are fields of the behaviour and take the value given.
    """

    at: float | None = None
    request: int | None = None
    every: float | None = None
    down: bool | None = None
    unload: bool = False
    set: dict[str, Any] = {}


class Behaviour(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server. Times are seconds, lengths are tokens, and a token is a word.

    `name` distinguishes servers of one process. `slots` requests are answered at the same time and `queue` more
    wait, first come first served; the next is refused. `rate`: tokens a second for one request alone on the device,
    None for as fast as possible. `first_token`: to the first token, and `read_rate` tokens of the prompt a second
    on top. `load`: to load the model, which is loaded at the start if `loaded`. `context`: prompt and answer
    together, the most a model of the native API can be asked for. `default_context`: what that API uses when a
    request doesn't say. `overflow`: the words with which a prompt that doesn't fit is refused, or `silent` to cut
    it on `/v1` as Ollama does. `heeds_truncate`: false is an older Ollama, which cuts on its native API even where
    it is told not to. `seed` shapes the answers, and with `name` the draws of faults. An answer has between
    `least_words` and `most_words` words unless the prompt names a number of sentences, in `chunks` pieces
    or one for each token; a vector has `dimensions` numbers. `honest`: a node, such as `local:demo`, that answers
    instead. `digest` None is made from the model's name; `vram` is the share of the model that lies on the device's
    own memory.
    """

    name: str = "a"
    address: str = "127.0.0.1"
    port: int = 0
    apis: tuple[Api, ...] = ("ollama", "openai")
    models: tuple[str, ...] = ("llama3.2:latest",)
    digest: str | None = None
    version: str = "0.12.6"
    key: str | None = None
    slots: int = 4
    queue: int | None = 512
    rate: float | None = None
    first_token: float = 0.0
    read_rate: float | None = None
    slow: float = 1.0
    device: str | None = None
    curve: Curve = Curve()
    load: float = 0.0
    loaded: bool = True
    warm_load: float = 0.006
    keep_alive: float = 300.0
    context: int = 8192
    default_context: int = 4096
    overflow: Literal["openai", "llama.cpp", "vllm", "silent"] = "openai"
    heeds_truncate: bool = True
    vram: float = 1.0
    capabilities: tuple[str, ...] = ("completion",)
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    seed: int = 0
    least_words: int = 8
    most_words: int = 40
    chunks: int | None = None
    dimensions: int = 32
    reasoning: int = 0
    honest: str = ""
    certificate: str | None = None
    private_key: str | None = None
    fault: tuple[AnyFault, ...] = ()
    change: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        for name in ("slots", "context", "default_context", "least_words", "dimensions"):
            at_least(name, getattr(self, name), 1)
        for name in ("queue", "first_token", "load", "reasoning", "warm_load"):
            at_least(name, getattr(self, name) or 0, 0)
        for name in ("rate", "read_rate", "slow", "chunks"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; give more than 0, or leave it out")
        if self.most_words < self.least_words:
            raise ValueError(f"most_words is {self.most_words}, less than least_words {self.least_words}")
        if not self.models:
            raise ValueError("models is empty; name at least one")
        for number, fault in enumerate(self.fault):
            check_fault(f"fault[{number}]", fault)
        for number, change in enumerate(self.change):
            if change.at is None and change.request is None:
                raise ValueError(f"change[{number}] has neither at nor request; say when it happens")
            if change.every is not None and change.every <= 0:
                raise ValueError(f"change[{number}].every is {change.every}; give more than 0")
            refuse_fixed(f"change[{number}].set", change.set)

    def __repr__(self) -> str:
        """All fields, but never the key: a failing test prints this."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__} | ({"key": "***"} if self.key else {})
        return f"Behaviour({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class Script(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All servers of one process and the devices they share."""

    server: tuple[Behaviour, ...]
    device: dict[str, Curve] = {}


def check_fault(place: str, fault: AnyFault) -> None:
    """Refuses what types can't: patterns that are none, and numbers out of range."""
    for name in ("match", "path"):
        pattern = getattr(fault, name)
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{place}.{name} is {pattern!r}, which is no regular expression: {error}") from error
    for name in ("share", "keep", "jitter"):
        if not 0 <= getattr(fault, name, 0) <= 1:
            raise ValueError(f"{place}.{name} is {getattr(fault, name)}; give 0 to 1")
    for name in ("gap", "factor", "bytes"):
        if getattr(fault, name, 1) <= 0:
            raise ValueError(f"{place}.{name} is {getattr(fault, name)}; give more than 0")
    for name in ("seconds", "pieces", "more", "size", "limit", "by"):
        if isinstance(getattr(fault, name, 0), float | int) and getattr(fault, name, 0) < 0:
            raise ValueError(f"{place}.{name} is {getattr(fault, name)}; give at least 0")


def refuse_fixed(name: str, changes: dict[str, Any]) -> None:
    unknown = [key for key in changes if key not in Behaviour.__struct_fields__]
    if unknown:
        raise ValueError(f"{name} has no field {unknown[0]!r}; known: {', '.join(Behaviour.__struct_fields__)}")
    fixed = [key for key in changes if key in FIXED]
    if fixed:
        raise ValueError(f"{name}: {fixed[0]} can't be changed while the server runs")


def changed(behaviour: Behaviour, changes: dict[str, Any], place: str = "behaviour") -> Behaviour:
    """The behaviour with some fields changed, checked as a whole; raises `UsageError`."""
    try:
        refuse_fixed(place, changes)
        plain = {**msgspec.to_builtins(behaviour), **changes}
        return msgspec.convert(plain, Behaviour)
    except (ValueError, msgspec.ValidationError) as error:
        raise UsageError(f"{place}: {error}") from error


def make_script(data: dict[str, Any], place: str) -> Script:
    """A script from plain data; raises `UsageError` that names the place and the field."""
    devices = data.pop("device", {}) if isinstance(data.get("device"), dict) else {}
    servers = data.pop("server", None)
    if servers is None:
        servers = [{}]
    if not isinstance(servers, list) or not servers:
        raise UsageError(f"{place}: server must be a list of tables; write [[server]]")
    whole = [{"name": name_of(number), **data, **server} for number, server in enumerate(servers)]
    try:
        script = msgspec.convert({"server": whole, "device": devices}, Script)
    except msgspec.ValidationError as error:
        raise UsageError(f"{place}: {error}") from error
    return checked(script, place)


def checked(script: Script, place: str) -> Script:
    """The script, if its servers go together."""
    unknown = [
        server.device for server in script.server if server.device is not None and server.device not in script.device
    ]
    if unknown:
        raise UsageError(f"{place}: device {unknown[0]!r} is not described; add a table [device.{unknown[0]}]")
    names = [server.name for server in script.server]
    if len(set(names)) < len(names):
        raise UsageError(f"{place}: two servers have one name; names: {', '.join(names)}")
    return script


def name_of(number: int) -> str:
    """The name of a server that has none: a, b, ... z, a1, b1, ..."""
    letter = chr(ord("a") + number % 26)
    return letter if number < 26 else f"{letter}{number // 26}"


def read_script(path: Path) -> Script:
    """Reads and checks a script file."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"script {path}: {error.strerror}; give a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"script {path}: {error}") from error
    return make_script(data, f"script {path}")

"""What differs between the APIs that servers speak, as a seam: how to learn of the model, how to ask, how to read."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from msgspec import Struct

from tokenmill.cluster import EngineOptions, Node
from tokenmill.engine.http.client import Client
from tokenmill.engine.http.reading import Reader
from tokenmill.errors import EngineError, UsageError
from tokenmill.request import Request

#: Model names shown when one has to be chosen.
SHOWN = 20


class Model(Struct, frozen=True, kw_only=True):
    """The model behind a node, as far as its API tells; `digest` is what two nodes of one run must share.

    `reads`: tokens to which the node was seen to cut a longer prompt, None if it wasn't.
    """

    name: str
    digest: str
    context: int | None = None
    memory: int = 0
    version: str = ""
    placement: str = ""
    reads: int | None = None


class Dialect(Protocol):
    """One API. It keeps what was decided once for the run, such as the context."""

    async def find(self, client: Client) -> Model:
        """The model, without loading it. Raises `EngineError` or `UsageError`."""
        ...

    async def load(self, client: Client, model: Model, seconds: float) -> Model:
        """The model as it is once the node is ready to answer."""
        ...

    def encode(self, request: Request, model: Model) -> tuple[str, bytes]:
        """Path and body that ask for an answer."""
        ...

    def reader(self, request: Request, model: Model) -> Reader: ...


def wanted_model(node: Node, options: EngineOptions) -> str | None:
    """The name by which the node is asked for its model: its own, or the run's."""
    return node.model or options.model


def only_model(client: Client, names: list[str]) -> str:
    """The one model a node has, if nobody named any."""
    if len(names) == 1:
        return names[0]
    if not names:
        raise UsageError(f"{client.place}: it lists no model; load one there, or name it with --model")
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    raise UsageError(f"{client.place}: it has {len(names)} models; choose one with --model: {client.clean(shown)}")


def decoded(client: Client, path: str, content: bytes) -> dict[str, Any]:
    """An object that describes a node, as plain data."""
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise client.fault(EngineError("misconfigured", f"{path} is no JSON ({error}); is this its API?")) from error
    if not isinstance(found, dict):
        raise client.fault(EngineError("misconfigured", f"{path} is no JSON object; is this its API?"))
    return found


def entries(found: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects in a list; anything else there is left out."""
    listed = found.get(key)
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def text_of(found: dict[str, Any], *keys: str) -> str:
    """The first of the keys that holds a text."""
    return next((found[key] for key in keys if isinstance(found.get(key), str) and found[key]), "")


def size_of(found: dict[str, Any], key: str) -> int | None:
    """A whole number above 0 under the key."""
    value = found.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

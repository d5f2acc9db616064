"""Which API a bare `http://HOST:PORT` speaks: Ollama's if it tells its version, else OpenAI's if it lists models."""

from __future__ import annotations

from msgspec.structs import replace

from tokenmill.engine.http.address import Address
from tokenmill.engine.http.client import Client
from tokenmill.engine.http.clocks import Clocks
from tokenmill.engine.http.dialect import decoded, entries, text_of
from tokenmill.engine.http.key import Key
from tokenmill.engine.http.proxy import Proxy
from tokenmill.errors import EngineError, UsageError


def with_base(address: Address) -> Address:
    """The base of OpenAI's API: `/v1` unless the URL names another path."""
    return address if address.path else replace(address, path="/v1")


async def detect(place: str, address: Address, key: Key | None, clocks: Clocks, proxy: Proxy | None = None) -> str:
    """`ollama` or `openai`.

    Raises:
        EngineError: the node can't be asked now.
        UsageError: it speaks neither; both answers are told.
    """
    client = Client(place, address, key, clocks, proxy=proxy)
    try:
        first = await _answers(client, "/api/version", ollama=True)
    finally:
        await client.close()
    if not first:
        return "ollama"
    base = with_base(address)
    client = Client(place, base, key, clocks, proxy=proxy)
    try:
        second = await _answers(client, "/models", ollama=False)
    finally:
        await client.close()
    if not second:
        return "openai"
    raise UsageError(
        f"{place}: neither API answers there. {address.path}/api/version: {first}. {base.path}/models: {second}. "
        "Name the kind as ollama:URL or openai:URL if you know it"
    )


async def _answers(client: Client, path: str, *, ollama: bool) -> str:
    """Empty if the path answers as it should, else what it said; a node that can't be asked at all raises."""
    try:
        found = decoded(client, path, await client.describe(path))
    except EngineError as error:
        if error.kind in ("unreachable", "timeout", "busy"):
            raise
        return error.message.removeprefix(f"{client.place}: ")
    if ollama:
        return "" if text_of(found, "version") else "no version"
    return "" if isinstance(found.get("data"), list) and entries(found, "data") is not None else "no list of models"

"""What there is to run on: nodes, and what an opened engine says of itself."""

from __future__ import annotations

from msgspec import Struct


class Node(Struct, frozen=True, kw_only=True):
    """One addressable engine instance: `engine` is its kind, `target` the path, name or file it opens."""

    name: str
    engine: str
    target: str


class EngineFacts(Struct, frozen=True, kw_only=True):
    """What an engine is once known: before loading (estimates) or after opening (as loaded).

    `slots`: requests it answers at the same time. `look_ahead`: further requests worth queueing in it.
    `context`: tokens of prompt and answer together, None if unlimited. `digest`: identifies weights, tokenizer and
    numeric format. `memory`: bytes it will hold. `host` and `device` say which hardware it shares with others.
    """

    model: str
    digest: str
    slots: int
    look_ahead: int = 0
    context: int | None = None
    memory: int = 0
    host: str = "localhost"
    device: str = "cpu"


class EngineOptions(Struct, frozen=True, kw_only=True):
    """What the user may decide about an engine; None leaves it to the engine.

    `dtype` is `fp32`, `bf16` or `fp64`; `kv_memory` is in bytes; `context` caps prompt and answer together, tokens.
    """

    slots: int | None = None
    threads: int | None = None
    dtype: str | None = None
    device: str | None = None
    kv_memory: int | None = None
    context: int | None = None

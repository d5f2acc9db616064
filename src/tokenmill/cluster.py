"""What there is to run on: nodes, and what an opened engine says of itself."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Node(Struct, frozen=True, kw_only=True):
    """One addressable engine instance: `engine` is its kind, `target` the path, name, file or URL it opens.

    The rest is what an inventory may say of a server: `model` if it differs from the run's; `key`, where its key is
    found, as `env:NAME` or `file:PATH`, never the key itself; `host` and `device`, which hardware it shares with
    others; `priority`, 0 before 1; `proxy`, how it is reached (see `tokenmill.engine.http.proxy`).
    """

    name: str
    engine: str
    target: str
    model: str | None = None
    key: str | None = None
    host: str | None = None
    device: str | None = None
    priority: int = 0
    proxy: str | None = None


class EngineFacts(Struct, frozen=True, kw_only=True):
    """What an engine is once known: before loading (estimates) or after opening (as loaded).

    `slots`: requests it answers at the same time. `look_ahead`: further requests worth queueing in it.
    `context`: tokens of prompt and answer together, None if unlimited. `digest`: identifies weights, tokenizer and
    numeric format. `memory`: bytes it will hold. `host` and `device` say which hardware it shares with others.
    `counts_exactly`: whether `count` uses the model's own tokenizer; a server's is not at hand, so it estimates.
    `version` and `placement` are a server's own words: its version, and where the weights lie. `caution` is what was
    found out when it was opened and users should know.
    """

    model: str
    digest: str
    slots: int
    look_ahead: int = 0
    context: int | None = None
    memory: int = 0
    host: str = "localhost"
    device: str = "cpu"
    counts_exactly: bool = True
    version: str = ""
    placement: str = ""
    caution: str = ""


class EngineOptions(Struct, frozen=True, kw_only=True):
    """What the user may decide about an engine; None leaves it to the engine.

    `dtype` is `fp32`, `bf16` or `fp64`; `kv_memory` is in bytes; `context` caps prompt and answer together, tokens.
    `model` is the name by which a server that holds several is asked for one. `raw`: prompts go to the model as they
    stand, as `Request.raw` says of each, so the engine's own questions do too. `longest`: about the tokens of the
    longest prompt that waits, 0 if that isn't known; `canary`: whether a server is asked first if it reads prompts of
    that length whole, `auto` leaves it to the engine. `tp`: ranks that share one model, `threads` and `kv_memory` being
    those of each; `tp_engine`: who divides it, `native` or `deepspeed`.
    """

    slots: int | None = None
    threads: int | None = None
    dtype: str | None = None
    device: str | None = None
    kv_memory: int | None = None
    context: int | None = None
    model: str | None = None
    raw: bool = False
    longest: int = 0
    canary: Literal["auto", "yes", "no"] = "auto"
    tp: int = 1
    tp_engine: Literal["native", "deepspeed"] = "native"

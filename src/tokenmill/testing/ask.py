"""A request for text as both APIs mean it, read from either body."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from tokenmill.errors import TokenmillError


class Turn(Struct):
    """One message; OpenAI also allows a list of parts."""

    role: str
    content: str | list[dict[str, Any]] | None = None


class NativeOptions(Struct):
    num_ctx: int | None = None
    num_predict: int | None = None
    stop: list[str] | str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None


class NativeBody(Struct):
    """The body of `/api/chat` and `/api/generate`; fields that shape nothing here are let pass."""

    model: str = ""
    messages: list[Turn] | None = None
    prompt: str = ""
    raw: bool | None = None
    system: str = ""
    stream: bool | None = True
    options: NativeOptions | None = None
    keep_alive: str | float | None = None
    truncate: bool | None = None
    shift: bool | None = None
    think: bool | str | None = None
    tools: list[Any] | None = None
    images: list[Any] | None = None


class StreamOptions(Struct):
    include_usage: bool = False


class OpenAIBody(Struct):
    """The body of `/v1/chat/completions` and `/v1/completions`."""

    model: str = ""
    messages: list[Turn] | None = None
    prompt: str | list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: list[str] | str | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    n: int | None = None


class Ask(Struct, kw_only=True):
    """What is asked: by which door, of which model, and within which limits.

    `keep_words`: how much of the prompt the server really reads, once it has silently cut it. `raw`: the prompt goes to
    the model as it stands. `inputs`: texts of which vectors are asked, each by itself, and no answer; `prompt` is all
    of them.
    """

    api: Literal["ollama", "openai"]
    chat: bool
    model: str
    prompt: str
    stream: bool
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    include_usage: bool = False
    num_ctx: int | None = None
    keep_words: int | None = None
    raw: bool = False
    truncate: bool = True
    shift: bool = True
    keep_alive: str | float | None = None
    think: bool = False
    tools: bool = False
    images: bool = False
    inputs: tuple[str, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None


class BadBody(TokenmillError):
    """A body that can't be read; the message is what the server says of it."""


NATIVE = msgspec.json.Decoder(NativeBody)
OPENAI = msgspec.json.Decoder(OpenAIBody)


def read_native(body: bytes, *, chat: bool) -> Ask:
    if not body:
        raise BadBody("missing request body")
    try:
        asked = NATIVE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBody(str(error)) from error
    options = asked.options or NativeOptions()
    given = asked.messages or []
    limit = options.num_predict
    return Ask(
        api="ollama",
        chat=chat,
        model=asked.model,
        prompt=joined(given) if chat else "\n".join(part for part in (asked.system, asked.prompt) if part),
        stream=asked.stream is not False,
        max_tokens=None if limit is None or limit < 0 else limit,
        stop=marks(options.stop),
        num_ctx=options.num_ctx,
        raw=bool(asked.raw) and not chat,
        truncate=asked.truncate is not False,
        shift=asked.shift is not False,
        keep_alive=asked.keep_alive,
        think=bool(asked.think),
        tools=bool(asked.tools),
        images=bool(asked.images),
        messages=tuple((turn.role, plain(turn)) for turn in given),
        temperature=0.8 if options.temperature is None else options.temperature,
        top_p=0.9 if options.top_p is None else options.top_p,
        top_k=40 if options.top_k is None else options.top_k,
        seed=options.seed,
    )


def read_openai(body: bytes, *, chat: bool) -> Ask:
    try:
        asked = OPENAI.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBody(str(error)) from error
    if chat and not asked.messages:
        raise BadBody("Missing required parameter: 'messages'.")
    if not chat and asked.prompt is None:
        raise BadBody("Missing required parameter: 'prompt'.")
    if isinstance(asked.prompt, list) and len(asked.prompt) != 1:
        raise BadBody("'prompt' with several entries is not supported here; send them one by one.")
    if asked.n is not None and asked.n != 1:
        raise BadBody("'n' other than 1 is not supported here.")
    prompt = joined(asked.messages or []) if chat else asked.prompt
    return Ask(
        api="openai",
        chat=chat,
        model=asked.model,
        prompt=prompt[0] if isinstance(prompt, list) else prompt or "",
        stream=bool(asked.stream),
        raw=not chat,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        stop=marks(asked.stop),
        include_usage=asked.stream_options is not None and asked.stream_options.include_usage,
        messages=tuple((turn.role, plain(turn)) for turn in asked.messages or ()),
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=asked.seed,
    )


def joined(turns: list[Turn]) -> str:
    """The contents of the messages, one a line; a single message is the same as its prompt."""
    return (
        turns[0].content or ""
        if len(turns) == 1 and isinstance(turns[0].content, str)
        else "\n".join(map(plain, turns))
    )


def plain(turn: Turn) -> str:
    if isinstance(turn.content, list):
        return "\n".join(str(part.get("text", "")) for part in turn.content)
    return turn.content or ""


def marks(stop: list[str] | str | None) -> tuple[str, ...]:
    return () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)


def seconds(keep_alive: str | float | None, default: float) -> float:
    """`keep_alive` in seconds: a number, or a text such as `5m`, `24h`, `30s`, `-1`; raises `BadBody`."""
    if keep_alive is None:
        return default
    if not isinstance(keep_alive, str):
        return float(keep_alive)
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    unit = next((unit for unit in units if keep_alive.endswith(unit)), "")
    number = keep_alive[: len(keep_alive) - len(unit)]
    try:
        return float(number) * units.get(unit, 1.0)
    except ValueError:
        raise BadBody(f'time: invalid duration "{keep_alive}"') from None

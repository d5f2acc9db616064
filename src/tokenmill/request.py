"""What is asked of a model, and what comes back while it answers.

These are msgspec structs rather than dataclasses: they are made for every request and every step, and cross
process borders.
"""

from __future__ import annotations

from msgspec import Struct


class Message(Struct, frozen=True):
    """One turn of a conversation; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


class Sampling(Struct, frozen=True, kw_only=True):
    """How the next token is chosen and when to end.

    `temperature` 0 is greedy. `top_k` 0 and `top_p` 1 switch those filters off. `max_tokens` None means up to the
    end of the context. `seed` None means a seed derived from the run and the row, so a run is repeatable.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()


class Request(Struct, frozen=True, kw_only=True):
    """One unit of work. Exactly one of `prompt` and `messages` is given.

    `raw`: the prompt goes to the model as it stands, without its chat template, and is continued.
    """

    row: int
    custom_id: str
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    sampling: Sampling = Sampling()
    raw: bool = False


class Usage(Struct, frozen=True):
    """Tokens read and tokens written for one request."""

    prompt_tokens: int
    output_tokens: int


class Chunk(Struct, frozen=True):
    """Text that arrived together: `tokens` new tokens, made in one forward pass of `step_width` sequences.

    `step_width` 0 means that the engine doesn't report it.
    """

    text: str
    tokens: int = 1
    step_width: int = 0


class RateSeen(Struct, frozen=True, kw_only=True):
    """What a hosted server's headers said of its limits: a minute's worth, and what is left of it; None if unsaid."""

    requests: float | None = None
    requests_left: float | None = None
    tokens: float | None = None
    tokens_left: float | None = None


class Completion(Struct, frozen=True):
    """The end of an answer; `finish_reason` is `stop`, `length` or `content_filter`, `flags` are oddities to keep.

    `rate` is what the server said of its rate limits.
    """

    finish_reason: str
    usage: Usage
    flags: tuple[str, ...] = ()
    rate: RateSeen | None = None

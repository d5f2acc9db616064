"""The faults by name: what each does, its parameters, and to which requests it happens.

A fault happens to a request if all of its conditions hold; of several that fit, the first of the list happens. The
share of requests is drawn from seed, server, prompt and attempt, so it doesn't depend on the order of arrival.
`numbers` counts the requests for text on this server from 1; `times` the attempts at one prompt, over all servers of
the process, so that a request that failed on one server is not failed again by the next.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Point = Literal["head", "body", "end"]


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What all faults share: to which requests they happen.

    `match`: a regular expression found in the prompt. `share`: part of the requests, 0 to 1. `numbers`: these requests
    only, counted from 1. `after`, `until`: seconds since the server started. `times`: the first attempts at each prompt
    only. `path`: a regular expression found in the path; left out, the fault happens to requests for text alone. Other
    requests have no prompt, and are numbered path by path.
    """

    match: str = ""
    share: float = 1.0
    numbers: tuple[int, ...] = ()
    after: float = 0.0
    until: float | None = None
    times: int | None = None
    path: str = ""


class Silent(Fault, frozen=True, kw_only=True, tag="silent"):
    """The request is read and never answered (B3, C1)."""


class Trickle(Fault, frozen=True, kw_only=True, tag="trickle"):
    """The bytes of the answer come `bytes` at a time, every `gap` seconds (B3, B16)."""

    bytes: int = 1
    gap: float = 10.0


class KeepAlive(Fault, frozen=True, kw_only=True, tag="keep_alive"):
    """Instead of text come SSE comments, or empty pieces on the native API, every `gap` seconds for ever (B3)."""

    gap: float = 1.0


class Reset(Fault, frozen=True, kw_only=True, tag="reset"):
    """The connection is reset in the head, after `pieces` pieces of text, or before the end mark (B4)."""

    at: Point = "body"
    pieces: int = 1


class Close(Fault, frozen=True, kw_only=True, tag="close"):
    """As `reset`, but the connection is closed in order, so the client reads an early end (B4)."""

    at: Point = "body"
    pieces: int = 1


class Unfinished(Fault, frozen=True, kw_only=True, tag="unfinished"):
    """A well-formed stream that lacks its end: `[DONE]`, the reason it ended, or both (B5)."""

    missing: Literal["mark", "reason", "both"] = "both"


class WrongLength(Fault, frozen=True, kw_only=True, tag="wrong_length"):
    """Content-Length is too short or too long by `by` bytes, negative, no number, or there are two that differ (B6)."""

    length: Literal["short", "long", "negative", "words", "two"] = "long"
    by: int = 7


class WrongChunk(Fault, frozen=True, kw_only=True, tag="wrong_chunk"):
    """The second chunk's size is no number, negative, beyond any memory, too small or too large (B6)."""

    size: Literal["words", "negative", "huge", "short", "long"] = "words"


class Crumbs(Fault, frozen=True, kw_only=True, tag="crumbs"):
    """A right answer in chunks of one byte, with `more` bytes of blank lines before it (B6)."""

    more: int = 0


class GzipBomb(Fault, frozen=True, kw_only=True, tag="gzip_bomb"):
    """A small compressed body that becomes `size` bytes (B7)."""

    size: int = 1 << 30


class HugeBody(Fault, frozen=True, kw_only=True, tag="huge_body"):
    """A body of `size` bytes, all in one line or in many (B7)."""

    size: int = 1 << 30
    lines: bool = False


class HugeHeader(Fault, frozen=True, kw_only=True, tag="huge_header"):
    """One header line of `size` bytes (B7)."""

    size: int = 10 << 20


class EndlessHeaders(Fault, frozen=True, kw_only=True, tag="endless_headers"):
    """Header lines without end; after `limit` of them the connection is closed (B7)."""

    limit: int = 10_000_000


class Body(Fault, frozen=True, kw_only=True, tag="body"):
    """A 200 whose body is no answer: a page, nothing, an error object, JSON cut inside a character, or `text` (B8).

    An error object comes after `pieces` pieces of text.
    """

    what: Literal["html", "empty", "error", "cut_character", "text"] = "html"
    text: str = ""
    pieces: int = 0


class Status(Fault, frozen=True, kw_only=True, tag="status"):
    """A status with the error object of its API (B9, B10, B11, C1).

    `retry_after` is sent as it stands; `date+5` becomes the date in 5 seconds. `echo_key` puts the key that came into
    the message, as some servers do.
    """

    status: int = 503
    message: str = ""
    retry_after: str | None = None
    echo_key: bool = False


class Redirect(Fault, frozen=True, kw_only=True, tag="redirect"):
    """A redirect to the URL `to`, to which the path is added; without one to the same place, for ever (B12)."""

    to: str = ""
    status: Literal[301, 302, 303, 307, 308] = 307


class Late(Fault, frozen=True, kw_only=True, tag="late"):
    """The answer comes `seconds` later, more or less by the share `jitter`; the slot is held meanwhile (B14, B16)."""

    seconds: float = 1.0
    jitter: float = 0.0


class Slow(Fault, frozen=True, kw_only=True, tag="slow"):
    """All of the answer takes `factor` times as long (C2)."""

    factor: float = 10.0


class Swapped(Fault, frozen=True, kw_only=True, tag="swapped"):
    """The answer is that to the prompt `prompt`, or to the prompt that was answered before this one (B15)."""

    prompt: str | None = None


class Surplus(Fault, frozen=True, kw_only=True, tag="surplus"):
    """After the right answer comes a second, unasked, on the same connection (B15)."""


class PromptCut(Fault, frozen=True, kw_only=True, tag="prompt_cut"):
    """Only the last part of the prompt, the share `keep`, is read, answered and counted, without a word (C7)."""

    keep: float = 0.5


class Finish(Fault, frozen=True, kw_only=True, tag="finish"):
    """The answer ends for another reason, such as `length` or `content_filter`, after the share `keep` of it (C8)."""

    reason: str = "length"
    keep: float = 0.5


class Empty(Fault, frozen=True, kw_only=True, tag="empty"):
    """An answer of no text that ends as if all were well (C8)."""


class ReasoningOnly(Fault, frozen=True, kw_only=True, tag="reasoning_only"):
    """All text is in the reasoning, the content is empty (C8)."""

    reason: str = "stop"


class ToolCall(Fault, frozen=True, kw_only=True, tag="tool_call"):
    """A call of a tool nobody offered instead of text (C8)."""

    name: str = "launch"


class Say(Fault, frozen=True, kw_only=True, tag="say"):
    """The answer is `text`, such as JSON that doesn't match a schema (C8)."""

    text: str = ""


class Loop(Fault, frozen=True, kw_only=True, tag="loop"):
    """One word over and over until the limit of the request, or `limit` tokens (C9)."""

    word: str = "again"
    limit: int = 512


class NoUsage(Fault, frozen=True, kw_only=True, tag="no_usage"):
    """Token counts are left out, or reported as 0."""

    zero: bool = False


class Vectors(Fault, frozen=True, kw_only=True, tag="vectors"):
    """Vectors that are not those of the texts: one has a number too few or too many, one is missing or too many, one
    holds null, two have one index, or they come in another order under their right indexes (the last two on `/v1`)."""

    what: Literal["short", "long", "missing", "extra", "null", "twice", "shuffled"] = "short"


class Down(Fault, frozen=True, kw_only=True, tag="down"):
    """The request takes the server down for `seconds`: connections are reset, new ones refused (B1, C3)."""

    seconds: float = 1.0


AnyFault = (
    Silent
    | Trickle
    | KeepAlive
    | Reset
    | Close
    | Unfinished
    | WrongLength
    | WrongChunk
    | Crumbs
    | GzipBomb
    | HugeBody
    | HugeHeader
    | EndlessHeaders
    | Body
    | Status
    | Redirect
    | Late
    | Slow
    | Swapped
    | Surplus
    | PromptCut
    | Finish
    | Empty
    | ReasoningOnly
    | ToolCall
    | Say
    | Loop
    | NoUsage
    | Vectors
    | Down
)

#: Faults after which the client has a right answer all the same, if it is patient and careful.
HARMLESS = (Late, Slow, Crumbs, Trickle, Surplus, NoUsage, HugeHeader)

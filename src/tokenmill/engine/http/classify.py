"""What went wrong, as a failure class: from a status, from an error object, from the text of an error. Pure.

The classes decide who pays. `unreachable`, `busy` and `misconfigured` are the node's and cost the row nothing,
`transient` and `timeout` cost it an attempt, `too_long`, `refused` and `filtered` are final.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from tokenmill.errors import EngineError

#: Longest rest that a node may ask for, in seconds; it is asked again after that.
LONGEST_REST = 300.0
#: Characters of a message that are told, and how many of them are its end, which is where the way out stands.
TOLD, TAIL = 500, 120
#: How much of the body of an error is read, in bytes.
ERROR_BYTES = 64 << 10

BUSY = frozenset({429, 503})
TRANSIENT = frozenset({408, 409, 425, 499})
MISCONFIGURED = frozenset({401, 402, 403, 404, 405, 407, 410})
#: What to do about a status that says a node is set up wrongly.
REMEDIES = {
    401: "give it a key: `tokenmill nodes add NAME URL --key env:VARIABLE`",
    403: "its key isn't allowed to do this; give another with `tokenmill nodes add NAME URL --key env:VARIABLE`",
}

#: OpenAI's code, llama.cpp's type, and the wordings of vLLM, Ollama and others.
OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|context (length|window|size)|maximum (context|model|input) length"
    r"|(prompt|input|request) (is )?(too long|length exceeds)|longer than the maximum|max_model_len",
    re.IGNORECASE,
)
QUOTA = re.compile(r"insufficient_quota|billing", re.IGNORECASE)
CROWDED = re.compile(r"rate.?limit|overload|\bbusy\b|too many requests|maximum pending|queue (is )?full", re.IGNORECASE)
SETUP = re.compile(
    r"invalid_api_key|authentication|unauthorized|permission|model_not_found|try pulling it|model \S+ (was )?not found"
    r"|model \S+ does not exist",
    re.IGNORECASE,
)
FILTER = re.compile(r"content_filter|content management policy|content policy", re.IGNORECASE)
MISTAKE = re.compile(r"invalid_request|bad request|badrequest|invalid value|does not support", re.IGNORECASE)
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
UNSHOWN = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class ServerError(Struct):
    """What the error object of a server says, whichever shape it has; `status` 0 if it names none."""

    message: str
    name: str = ""
    status: int = 0


def fault_of_status(status: int, body: bytes, retry_after: float | None, location: str = "") -> EngineError:
    """The failure that an answer other than 200 means."""
    said = read_error(body)
    told = f"HTTP {status}" + (f": {said.message}" if said.message else "")
    words = f"{said.name} {said.message}"
    if 300 <= status < 400:
        return EngineError(
            "misconfigured", f"HTTP {status}, a redirect to {location or 'nowhere'}; name the final URL as the node"
        )
    if status in BUSY:
        if QUOTA.search(said.name):
            return EngineError("misconfigured", f"{told}; the account has no quota left")
        return EngineError("busy", told, retry_after)
    if status in TRANSIENT or status >= 500:
        return EngineError("transient", told, retry_after)
    if status == 413 or (status in (400, 422) and OVERFLOW.search(words)):
        return EngineError("too_long", f"{told}; shorten the prompt or give the model a larger context")
    if status in MISCONFIGURED:
        remedy = f"; {REMEDIES[status]}" if status in REMEDIES else ""
        return EngineError("misconfigured", told + remedy)
    if FILTER.search(words):
        return EngineError("filtered", told)
    if status >= 400:
        return EngineError("refused", told)
    return EngineError("transient", f"{told}: not an answer")


def fault_of_object(error: object) -> EngineError:
    """The failure that an error object inside a 200 means, by its code if it has one, else by its words."""
    said = _said(error)
    if said.status >= 400:
        return fault_of_status(said.status, msgspec.json.encode({"error": error}), None)
    words = f"{said.name} {said.message}"
    told = f"the node reported an error in its answer: {said.message or 'without words'}"
    order: tuple[tuple[str, re.Pattern[str]], ...] = (
        ("too_long", OVERFLOW),
        ("misconfigured", QUOTA),
        ("busy", CROWDED),
        ("misconfigured", SETUP),
        ("filtered", FILTER),
        ("refused", MISTAKE),
    )
    kind = next((kind for kind, pattern in order if pattern.search(words)), "transient")
    return EngineError(kind, told)


def read_error(body: bytes) -> ServerError:
    """The error in a body: an object of any known shape, else the body's own beginning, unless it is a page."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        text = body.decode("utf-8", errors="replace").strip()
        return ServerError("an HTML page" if text.startswith("<") else text)
    if isinstance(found, dict):
        error = found.get("error")
        return _said(error if error is not None else found)
    return _said(found)


def _said(error: object) -> ServerError:
    if not isinstance(error, dict):
        return ServerError(error if isinstance(error, str) else "")
    message = error.get("message") or error.get("detail") or error.get("error") or ""
    code: Any = error.get("code")
    names = " ".join(str(error[key]) for key in ("type", "code") if isinstance(error.get(key), str))
    is_status = isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600
    return ServerError(message if isinstance(message, str) else str(message), names, int(code) if is_status else 0)


def presentable(text: str) -> str:
    """A message on one line, without control characters, and not more of it than anyone reads."""
    text = " ".join(UNSHOWN.sub(" ", text).split())
    return text if len(text) <= TOLD else f"{text[: TOLD - TAIL]} ... {text[-TAIL:]}"


def rest_of(header: str | None, wall_clock: Callable[[], float]) -> float | None:
    """Seconds that a Retry-After asks for, between 0 and LONGEST_REST; None if there is none, or it is garbage."""
    if header is None:
        return None
    text = header.strip()
    if NUMBER.fullmatch(text):
        return min(max(0.0, float(text)), LONGEST_REST)
    try:
        moment = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(0.0, moment - wall_clock()), LONGEST_REST)

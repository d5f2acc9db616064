"""A finished stream is not yet an answer: checks with a named outcome and a policy for each.

`flag` keeps the answer and names the oddity beside it, `fail` makes the request fail with that class, `ignore` says
nothing.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.errors import EngineError
from tokenmill.event import Answer

Choice = Literal["flag", "fail", "ignore"]

#: An answer that ends in this many copies of one piece is a loop.
LOOP_COPIES = 8
#: Shortest looping tail, in characters; "ha ha ha" is not a fault.
LOOP_TAIL = 160
LONGEST_PIECE = 400


class Acceptance(Struct, frozen=True, kw_only=True):
    """What to do with an answer that is empty, reached its token limit, ends in a loop, was ended by the server's
    filter, or was given to a prompt of which the server had read only a part (`cut`).
    """

    empty: Choice = "fail"
    length: Choice = "flag"
    repetition: Choice = "flag"
    filtered: Choice = "fail"
    cut: Choice = "fail"


def accept(answer: Answer, policy: Acceptance) -> Answer:
    """The answer, with a flag for each oddity; raises `EngineError` where the policy is to fail."""
    flags = list(answer.flags)
    for name, choice, message in _oddities(answer, policy):
        if choice == "fail":
            raise EngineError(name, message)
        if choice == "flag":
            flags.append(name)
    named = tuple(dict.fromkeys(flags))
    return answer if named == answer.flags else replace(answer, flags=named)


def _oddities(answer: Answer, policy: Acceptance) -> list[tuple[str, Choice, str]]:
    found: list[tuple[str, Choice, str]] = []
    if not answer.text.strip():
        found.append(("empty", policy.empty, f"the answer has no text after {answer.output_tokens} tokens"))
    if answer.finish_reason == "content_filter":
        found.append(("filtered", policy.filtered, "the server's content filter ended the answer; change the prompt"))
    if "cut" in answer.flags:
        message = f"the server read only {answer.prompt_tokens} tokens of the prompt; raise --context or shorten it"
        found.append(("cut", policy.cut, message))
    if answer.finish_reason == "length":
        message = f"the answer was cut at {answer.output_tokens} tokens; raise max_tokens"
        found.append(("length", policy.length, message))
        if policy.repetition != "ignore" and ends_in_loop(answer.text):
            found.append(("repetition", policy.repetition, "the answer ends in a loop"))
    return found


def ends_in_loop(text: str) -> bool:
    """Whether the text ends in at least LOOP_COPIES copies of one piece that fill LOOP_TAIL characters."""
    tail = text[-LONGEST_PIECE * LOOP_COPIES :]
    for size in range(1, min(LONGEST_PIECE, len(tail) // LOOP_COPIES) + 1):
        copies = max(LOOP_COPIES, -(-LOOP_TAIL // size))
        span = size * copies
        if span <= len(tail) and tail[-span:] == tail[-size:] * copies:
            return True
    return False

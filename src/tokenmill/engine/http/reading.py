"""The end of an answer, whichever API it came over: what must be there, and what is flagged if it isn't."""

from __future__ import annotations

from typing import Protocol

from tokenmill.engine.http.prompt import Cut, estimate
from tokenmill.errors import EngineError
from tokenmill.request import Completion, Request, Usage

#: Counts above this are no counts.
MOST_TOKENS = 10**9
#: Reasons by which servers say that an answer is whole, and the two that we know.
REASONS = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "length": "length",
    "max_tokens": "length",
}


class Reader(Protocol):
    """The bytes of one answer become pieces of text; pure.

    `moved` counts pieces of text and of reasoning: tokens that show that the node works. `ended` is true once the API's
    own end mark came; `loaded` if the model was loaded for this answer, as far as the API tells; `fingerprint` is what
    the node calls the way it computes, if it says; `read` the prompt tokens that it reports, known at the end.
    """

    moved: int
    read: int | None
    fingerprint: str

    @property
    def ended(self) -> bool: ...

    @property
    def loaded(self) -> bool: ...

    def feed(self, data: bytes) -> list[str]: ...

    def close(self) -> list[str]:
        """The text that only the end of the stream completes."""
        ...

    def finish(self) -> Completion:
        """The completion, once the stream is over.

        Raises:
            EngineError: the stream is no whole answer.
        """
        ...


def count_of(value: float | None) -> int | None:
    """A reported number of tokens; None if it is absent or impossible."""
    if value is None or not 0 <= value <= MOST_TOKENS or value != int(value):
        return None
    return int(value)


def usage_of(request: Request, prompt: int | None, output: int | None, moved: int) -> tuple[Usage, list[str]]:
    """Usage without invented numbers: what the node doesn't report is estimated, and flagged.

    0 prompt tokens are what a node reports for a prompt in its cache, and 0 output tokens for an answer that has text:
    both mean that it doesn't know.
    """
    flags = []
    if not prompt:
        prompt = estimate(request)
        flags.append("prompt_tokens_estimated")
    if output is None or (output == 0 and moved):
        output = moved
        flags.append("usage_estimated")
    return Usage(prompt, output), flags


def check_cut(cut: Cut | None, flags: list[str]) -> None:
    """Fails an answer to a prompt that was certainly cut, flags one that seems so."""
    if cut is None:
        return
    if cut.certain:
        raise EngineError("cut", f"the prompt was cut: {cut.why}; give the model a larger context (--context)")
    flags.append("prompt_cut_suspected")


def settled_reason(reason: str, flags: list[str]) -> str:
    """`stop` or `length`; other words of the node are flagged or fail the answer."""
    if reason == "content_filter":
        raise EngineError("filtered", "the node's content filter ended the answer")
    settled = REASONS.get(reason)
    if settled is None:
        raise EngineError("transient", f"the node ended the answer with the reason {reason!r}")
    if reason in ("tool_calls", "function_call"):
        flags.append("tool_calls")
    return settled

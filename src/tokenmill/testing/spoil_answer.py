"""What a fault does to the answer itself: a well-formed reply that says the wrong thing, or too little."""

from __future__ import annotations

import msgspec

from tokenmill.testing.answer import Said, in_pieces
from tokenmill.testing.ask import Ask
from tokenmill.testing.behaviour import Behaviour
from tokenmill.testing.compose import say
from tokenmill.testing.fault import (
    AnyFault,
    Empty,
    Finish,
    Loop,
    NoUsage,
    PromptCut,
    ReasoningOnly,
    Say,
    Swapped,
    ToolCall,
)

replace = msgspec.structs.replace


def answer(fault: AnyFault | None, behaviour: Behaviour, ask: Ask, last_prompt: str) -> Said:
    """What is said to a request to which the fault happens; `last_prompt` is the one answered before."""
    match fault:
        case PromptCut(keep=keep):
            return say(behaviour, replace(ask, keep_words=int(len(ask.prompt.split()) * keep)), ask.prompt)
        case Swapped(prompt=prompt):
            return say(behaviour, ask, prompt or last_prompt or f"not {ask.prompt}")
        case Say(text=text):
            said = say(behaviour, ask, ask.prompt)
            return replace(said, pieces=((text, len(text.split())),) if text else (), reason="stop")
        case Loop(word=word, limit=limit):
            count = limit if ask.max_tokens is None else ask.max_tokens
            said = say(behaviour, ask, ask.prompt)
            return replace(said, pieces=in_pieces([word] * count, behaviour.chunks), reason="length")
        case _:
            return twisted(fault, ask, say(behaviour, ask, ask.prompt))


def twisted(fault: AnyFault | None, ask: Ask, said: Said) -> Said:
    """The right answer, otherwise ended or otherwise labelled."""
    match fault:
        case Finish(reason=reason, keep=keep):
            return replace(said, pieces=said.pieces[: int(len(said.pieces) * keep)], reason=reason)
        case Empty():
            return replace(said, pieces=(), reasoning=())
        case ReasoningOnly(reason=reason):
            return replace(said, pieces=(), reasoning=said.reasoning + said.pieces, reason=reason)
        case ToolCall(name=name):
            reason = "tool_calls" if ask.api == "openai" else "stop"
            return replace(said, pieces=(), tool=name, reason=reason)
        case NoUsage(zero=zero):
            return replace(said, counted=False if zero else None)
    return said

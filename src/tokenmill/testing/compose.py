"""An answer becomes a reply, piece by piece, while it is sent."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tokenmill.testing.answer import Said, cut_front, in_pieces, limited, words_of
from tokenmill.testing.ask import Ask
from tokenmill.testing.behaviour import Behaviour
from tokenmill.testing.voice import OPENING, REASONING, TEXT, Piece, Reply, Timing, Voice


def say(behaviour: Behaviour, ask: Ask, prompt: str) -> Said:
    """The right answer to a prompt, within the limits of the request."""
    if ask.keep_words is not None:
        prompt = cut_front(prompt, ask.keep_words)
    words = words_of(prompt, behaviour.seed, behaviour.least_words, behaviour.most_words)
    prompt_tokens = len(prompt.split())
    room = behaviour.context if ask.num_ctx is None else ask.num_ctx
    limit = ask.max_tokens
    if ask.api == "openai" or not ask.shift:  # else the native API goes on by forgetting the front
        left = max(1, room - prompt_tokens)
        limit = left if limit is None else min(limit, left)
    thought: tuple[tuple[str, int], ...] = ()
    if behaviour.reasoning:
        thought = in_pieces(("so " * behaviour.reasoning).split(), behaviour.chunks)
        limit = None if limit is None else max(0, limit - behaviour.reasoning)
    kept, reason = limited(words, limit, ask.stop)
    return Said(pieces=in_pieces(kept, behaviour.chunks), reasoning=thought, reason=reason, prompt_tokens=prompt_tokens)


def first_work(behaviour: Behaviour, prompt_tokens: int) -> float:
    """Seconds of work before the first token."""
    reading = prompt_tokens / behaviour.read_rate if behaviour.read_rate is not None else 0.0
    return behaviour.first_token + reading


def reply_to(ask: Ask, voice: Voice, said: Said, behaviour: Behaviour, timing: Timing, arrived: float) -> Reply:
    """The reply that says `said`; its pieces are made as they are due, so that its timing is what happened."""
    first, begun = first_work(behaviour, said.prompt_tokens), time.monotonic()
    each = 0.0 if behaviour.rate is None else 1.0 / behaviour.rate

    def measured() -> None:
        now = time.monotonic()
        timing.read = first
        timing.write = max(said.tokens * each, now - begun - first)
        timing.total = max(now - arrived, timing.load + timing.read + timing.write)

    def stream() -> Iterator[Piece]:
        ahead = first
        opening = voice.opening()
        for kind, word, pieces in ((REASONING, voice.reasoning, said.reasoning), (TEXT, voice.text, said.pieces)):
            for text, tokens in pieces:
                if opening:
                    yield OPENING, ahead, opening
                    ahead, opening = 0.0, b""
                yield kind, ahead + tokens * each, word(text)
                ahead = 0.0
        if opening:
            yield OPENING, ahead, opening
            ahead = 0.0
        measured()
        for index, (kind, work, data) in enumerate(voice.ending(said, timing)):
            yield kind, work + (0.0 if index else ahead), data

    def whole() -> Iterator[Piece]:
        yield TEXT, first + said.tokens * each, b""
        measured()
        yield TEXT, 0.0, voice.whole(said, timing)

    if ask.stream:
        return Reply(200, voice.content_type, stream(), streamed=True)
    return Reply(200, "application/json", whole())

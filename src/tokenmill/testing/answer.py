"""What a server says to a prompt: a pure function of prompt and seed, so faulty runs and calm ones answer alike.

A token is a word. "Give me N sentences ..." is answered by N numbered sentences, anything else by a number of words
that follows from prompt and seed. The sentences come from a fixed list made once.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections.abc import Sequence
from random import Random

from msgspec import Struct

from tokenmill.workload.words import sentence

ASKED = re.compile(r"\bGive me (\d+) sentences?\b")
MOST_ASKED = 10_000


class Said(Struct, frozen=True, kw_only=True):
    """A whole answer: its pieces of text with their tokens, and how it ended."""

    pieces: tuple[tuple[str, int], ...]
    reasoning: tuple[tuple[str, int], ...] = ()
    reason: str = "stop"
    prompt_tokens: int = 0
    tool: str | None = None
    counted: bool | None = True

    @property
    def tokens(self) -> int:
        return sum(tokens for _, tokens in self.pieces) + sum(tokens for _, tokens in self.reasoning)

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)


@functools.lru_cache(maxsize=1)
def lexicon() -> tuple[str, ...]:
    rng = Random("tokenmill.testing")
    return tuple(sentence(rng) for _ in range(1009))


def words_of(prompt: str, seed: int, least: int, most: int) -> list[str]:
    """The words of the answer to a prompt."""
    draw = int.from_bytes(
        hashlib.blake2b(f"{seed}:{prompt}".encode("utf-8", "replace"), digest_size=12).digest(), "big"
    )
    sentences = lexicon()
    start, step = draw % 1009, 1 + draw // 1009 % 1008
    asked = ASKED.search(prompt)
    if asked:
        count = min(int(asked[1]), MOST_ASKED)
        return [
            word
            for number in range(count)
            for word in (f"{number + 1}.", *sentences[(start + number * step) % 1009].split())
        ]
    length = least + draw // (1009 * 1008) % (most - least + 1)
    return " ".join(sentences[(start + number * step) % 1009] for number in range(length // 10 + 1)).split()[:length]


def limited(words: Sequence[str], max_tokens: int | None, stop: Sequence[str]) -> tuple[list[str], str]:
    """The words up to a stop string or the limit, and the reason it ended."""
    kept = list(words)
    if stop:
        text = " ".join(kept)
        ends = [place for place in (text.find(mark) for mark in stop if mark) if place >= 0]
        if ends:
            kept = text[: min(ends)].split()
    if max_tokens is not None and max_tokens < len(kept):
        return kept[:max_tokens], "length"
    return kept, "stop"


def in_pieces(words: Sequence[str], chunks: int | None) -> tuple[tuple[str, int], ...]:
    """The words in `chunks` pieces, or one for each word; joined they are the words with a space between."""
    if not words:
        return ()
    count = len(words)
    pieces = count if chunks is None else min(chunks, count)
    bounds = [count * number // pieces for number in range(pieces + 1)]
    return tuple(
        ((" " if start else "") + " ".join(words[start:end]), end - start) for start, end in itertools.pairwise(bounds)
    )


def cut_front(prompt: str, keep: int) -> str:
    """The last `keep` words of a prompt, as a server that cuts silently reads it."""
    words = prompt.split()
    return prompt if len(words) <= keep else " ".join(words[len(words) - keep :])

"""What is sent of a request whatever the API, and what can be said of its length without the model's tokenizer.

The estimate: one token for every 4 bytes of UTF-8, rounded up, and 4 for each message. English is close to that;
a Chinese character has 3 bytes and about one token; code and numbers have up to twice as many tokens as estimated.
"""

from __future__ import annotations

import hashlib
import re

from msgspec import Struct

from tokenmill.request import Message, Request

BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
#: No tokenizer reads text in fewer tokens than this, repetitions aside: nearly twice the average of English.
MOST_LETTERS_PER_TOKEN = 8
#: Prompts shorter than this are never failed for a low count alone: templates and counting habits weigh too much.
JUDGED_LETTERS = 8192
#: Tokens by which the count of a cut prompt may differ from the half of the context.
HALF_TOLERANCE = 8
#: An estimate this much above the context can't be one that is merely too high.
SURELY = 1.25
#: Fewer missing tokens than this are not worth a flag.
NOISE = 32
REPEATED = re.compile(r"(.)\1{3,}", re.DOTALL)
#: Seeds stay below this, as some servers keep them in 32 bits.
SEEDS = 1 << 31


class Cut(Struct, frozen=True):
    """A prompt of which the node saw a part, or seems to have; `certain` if it can't be otherwise."""

    certain: bool
    why: str


def messages_of(request: Request) -> tuple[Message, ...]:
    """The conversation; a prompt is the message of a user."""
    return request.messages if request.prompt is None else (Message("user", request.prompt),)


def estimate(request: Request) -> int:
    """Prompt tokens by the rule above; never 0."""
    messages = messages_of(request)
    size = sum(len(_bytes(message.content)) for message in messages)
    return max(1, -(-size // BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * len(messages))


def seed_of(request: Request) -> int:
    """The request's own seed, or one that is the same for its id in every attempt, on every node, in every run."""
    if request.sampling.seed is not None:
        return request.sampling.seed
    name = _bytes(request.custom_id)
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") % SEEDS


def cut_of(
    request: Request, reported: int, context: int | None, reads: int | None = None, *, counts_cached: bool
) -> Cut | None:
    """Whether the node read less than it was sent, judged by the prompt tokens that it reports.

    `counts_cached`: whether the count includes tokens found in the node's cache. Where it may not, a low count alone
    is no proof; a count at the place where Ollama cuts (half of the context and a little) is, and so is `reads`, to
    which the node was seen to cut a longer prompt.
    """
    expected = estimate(request)
    if reads is not None and abs(reported - reads) <= HALF_TOLERANCE and expected > reads * SURELY:
        return Cut(certain=True, why=f"the node read {reported} tokens of about {expected}, as many as of its trial")
    if reported * 2 >= expected:
        return None
    half = context is not None and abs(reported - context / 2) <= HALF_TOLERANCE
    if half and context is not None and expected > context:
        why = f"the node read {reported} tokens, half of its context of {context}, of about {expected} sent"
        return Cut(certain=expected > context * SURELY, why=why)
    size = sum(len(REPEATED.sub(r"\1\1\1", message.content)) for message in messages_of(request))
    least = size // MOST_LETTERS_PER_TOKEN
    if reported >= least or least - reported < NOISE:
        return None
    over = context is not None and least > context
    why = f"the node read {reported} tokens of a prompt that has at least {least}" + (
        f"; its context is {context}" if context is not None else ""
    )
    return Cut(certain=over or (counts_cached and size >= JUDGED_LETTERS), why=why)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")

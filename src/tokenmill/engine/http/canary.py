"""A trial prompt that shows whether a node reads long prompts whole, by counts alone. Pure.

Some servers cut the beginning off a prompt that is too long and answer 200: Ollama's `/v1`, Ollama's own API before it
knew `truncate: false`, proxies. What the model says is no evidence, since a small model may not know what it has read.
The number of tokens that the server says it has read is: a word between spaces is at least one token in every tokenizer
in use, so a prompt of N words of which fewer than N tokens were read was cut. The first word was never sent before, so
that nothing of the prompt can come uncounted from a cache.
"""

from __future__ import annotations

from random import Random

from msgspec import Struct

from tokenmill.cluster import EngineOptions
from tokenmill.request import Request, Sampling

#: Prompts shorter than this, in estimated tokens, are within the context of any server in use.
LEAST = 1000
#: Longest trial, in words: a longer one would cost more than it can tell.
MOST = 32_768
#: An estimate may be this much too low, so a context must be this much larger before nothing can be cut.
DOUBT = 2
#: A count this much below the words shows a cut; tokenizers that join words hardly ever join these.
WHOLE = 0.95
#: A server cuts a prompt to what it holds, or to half of that.
MOST_HELD = 2
#: Seconds after which the trial is given up.
PATIENCE = 120.0
WORDS = ("time", "water", "house", "people", "green", "world", "small", "right", "three", "under", "music", "table")


class Trial(Struct, frozen=True):
    """What came of it. `reads`: tokens to which the node cut it, None if it didn't; `caution`: what to tell users."""

    reads: int | None = None
    caution: str = ""


def length_of_trial(options: EngineOptions, context: int | None, *, is_hosted: bool) -> int:
    """Words of the trial: about the tokens of the longest prompt; 0 if none is needed, or nobody wants to pay."""
    wanted = options.canary == "yes"
    length = min(options.longest, MOST)
    if options.canary == "no" or (not wanted and (is_hosted or length < LEAST)):
        return 0
    return length if wanted or context is None or options.longest * DOUBT > context else 0


def trial_of(length: int, name: str, *, raw: bool) -> Request:
    """A prompt of `length` common words that begins with `name`, answered by one token."""
    draw = Random(name)
    prompt = " ".join([name, *(draw.choice(WORDS) for _ in range(length - 1))])
    return Request(row=0, custom_id="canary", prompt=prompt, sampling=Sampling(max_tokens=1), raw=raw)


def judge(place: str, length: int, reported: int | None) -> Trial:
    """What the tokens that the node reports for a trial of `length` words mean."""
    if not reported:
        return Trial(caution=f"{place} reports no prompt tokens: whether it reads long prompts whole can't be checked")
    if reported >= length * WHOLE:
        return Trial()
    return Trial(
        reported,
        f"{place} read {reported} tokens of a trial prompt that has at least {length}: it cuts the beginning off long "
        "prompts and doesn't say so. Rows that are too long fail as `cut`; raise the context of the model there "
        "(num_ctx, --context)",
    )


def is_beyond(request: Request, reads: int) -> bool:
    """Whether a prompt certainly has more tokens than a node holds that cut its trial to `reads`."""
    texts = (message.content for message in request.messages) if request.prompt is None else (request.prompt,)
    return sum(len(text.split()) for text in texts) > reads * MOST_HELD

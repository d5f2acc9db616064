"""Inputs that need no file: the two sentence sets, the texts, and seeded length distributions."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from tokenmill.workload.synthetic import PREFIX, parse_synthetic, synthetic_rows
from tokenmill.workload.words import text

#: Sentences asked for, in the order of the original file; they sum to 465.
SENTENCES = [30, 29, 10, 7, 26, 25, 6, 3, 22, 21, 4, 8, 18, 23, 17, 2, 16, 20, 15, 1, 14, 24, 13, 5, 12, 27, 11, 9]
SENTENCES += [19, 28]
SENTENCES_15 = [30, 27, 1, 4, 5, 29, 26, 2, 6, 7, 28, 25, 3, 8, 9]

TEXTS = "texts"
TEXTS_ROWS = 2500
TEXTS_SEED = 2500
TEXTS_TEMPLATE = "{{ text.split()[:5] | join(' ') }}"
TEXTS_MAX_TOKENS = 200

NAMES = ("sentences", "sentences-15", TEXTS, "synthetic:...")


def is_builtin(source: str) -> bool:
    return source in NAMES[:3] or source.startswith(PREFIX)


def builtin_rows(source: str) -> Iterator[dict[str, object]]:
    """The rows of a built-in input; raises `UsageError` for a distribution that can't be read."""
    if source.startswith(PREFIX):
        return synthetic_rows(parse_synthetic(source))
    if source == TEXTS:
        return _texts()
    return _sentences(SENTENCES if source == "sentences" else SENTENCES_15)


def _sentences(counts: list[int]) -> Iterator[dict[str, object]]:
    for count in counts:
        noun = "sentence" if count == 1 else "sentences"
        prompt = f"Give me {count} {noun} about the University of Chicago"
        yield {"custom_id": f"sentences-{count}", "prompt": prompt}


def _texts() -> Iterator[dict[str, object]]:
    rng = Random(TEXTS_SEED)
    for number in range(1, TEXTS_ROWS + 1):
        yield {"id": f"text-{number:04d}", "text": text(rng, 20 + int(rng.random() * 101))}

"""Seeded filler text: the same seed gives the same words on every machine and Python version."""

from __future__ import annotations

from random import Random

_LEXICON = (
    # Adjectives, nouns, verbs, places.
    "old quiet bright narrow distant heavy early modern wooden clever patient northern golden careful ordinary "
    "famous gentle broken crowded simple hidden frozen curious steady public",
    "river city engineer garden library market teacher bridge winter storm village machine painter harbour forest "
    "doctor railway mountain student museum farmer letter island engine kitchen window captain theory orchard voice",
    "crossed followed remembered changed opened watched repaired described reached carried found left measured "
    "visited studied warned supported replaced welcomed surprised",
    "near behind above beyond across inside beneath beside under around",
)
_ADJECTIVES, _NOUNS, _VERBS, _PLACES = (words.split() for words in _LEXICON)


def pick(rng: Random, words: list[str]) -> str:
    """One word; only `random()` is used because its sequence is the one Python promises to keep."""
    return words[int(rng.random() * len(words))]


def sentence(rng: Random) -> str:
    """A plain sentence of 10 words."""
    subject = f"{pick(rng, _ADJECTIVES)} {pick(rng, _NOUNS)}"
    rest = f"{pick(rng, _VERBS)} the {pick(rng, _NOUNS)} {pick(rng, _PLACES)} the {pick(rng, _ADJECTIVES)}"
    return f"The {subject} {rest} {pick(rng, _NOUNS)}."


def text(rng: Random, words: int) -> str:
    """About `words` words in whole sentences, at least one sentence."""
    return " ".join(sentence(rng) for _ in range(max(1, round(words / 10))))

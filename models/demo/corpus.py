"""The training text of the demo model: generated here from the facts and phrases beside this file.

Sentence k of a topic is always the same, and an answer of N sentences runs from N down to 1. Each number is then the
one before it less one and the end follows 1, so the model need not remember how many sentences it was asked for.

For every topic but the benchmark's a few values of N are held out: no phrasing of them is ever generated, so that the
evaluation can tell counting from memory. All draws come from the generator that is passed in; the same seed gives the
same text.
"""

import random
import string
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MOST = 30
HELD_OUT_PER_TOPIC = 4
BENCHMARK_TOPIC = "the University of Chicago"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation: role is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A prompt and its completion; without turns, `raw` is text that stands before the completion as it is."""

    kind: str
    turns: tuple[Turn, ...]
    raw: str
    completion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic with its thirty facts; fact k, counted from 1, is the sentence numbered k."""

    name: str
    facts: tuple[str, ...]


def read_topics() -> tuple[Topic, ...]:
    """Every topic that has facts, in file order."""
    table = tomllib.loads((HERE / "topics.toml").read_text("utf-8"))
    return tuple(Topic(name=entry["name"], facts=tuple(entry["facts"])) for entry in table["topic"])


def read_phrases() -> dict[str, Any]:
    """The lists of phrases.toml, by their names there."""
    return tomllib.loads((HERE / "phrases.toml").read_text("utf-8"))


def fill(phrase: str, count: int, topic: str) -> str:
    """The phrase as a user would write it: one sentence, but two sentences."""
    end = "" if count == 1 else "s"
    return phrase.format(n=count, s="sentence" + end, f="fact" + end, l="line" + end, t=topic)


def count_down(sentences: tuple[str, ...], count: int) -> str:
    """The completion: sentence `count` first, sentence 1 last, one a line."""
    return "\n".join(f"{number}: {sentences[number - 1]}" for number in range(count, 0, -1))


def hold_out(topics: tuple[Topic, ...], seed: int) -> dict[str, frozenset[int]]:
    """The values of N that training never asks of a topic; 1 and 30 are always trained.

    The benchmark topic is trained on every N, for all thirty are asked of it.
    """
    draw = random.Random(f"held out {seed}")
    drawn = {topic.name: frozenset(draw.sample(range(2, MOST), HELD_OUT_PER_TOPIC)) for topic in topics}
    return drawn | {BENCHMARK_TOPIC: frozenset()}


class Corpus:
    """Draws training samples without end."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.topics = read_topics()
        self.phrases = read_phrases()
        self.held_out = hold_out(self.topics, seed)

    @cached_property
    def words(self) -> list[str]:
        """Every word of the facts, for prompts that ask for nothing we know."""
        return sorted({word.strip(".,") for topic in self.topics for fact in topic.facts for word in fact.split()})

    def pattern_sentences(self, topic: str) -> tuple[str, ...]:
        """The thirty sentences said about a topic without facts."""
        return tuple(pattern.format(t=topic) for pattern in self.phrases["pattern"])

    def samples(self, draw: random.Random) -> Iterator[Sample]:
        """Training samples in their fixed shares, drawn one by one."""
        makers = (self._known, self._plain, self._other, self._raw, self._second_turn)
        while True:
            (maker,) = draw.choices(makers, weights=(58, 20, 13, 6, 3))
            yield maker(draw)

    def _count(self, draw: random.Random, without: frozenset[int]) -> int:
        if draw.random() < 0.06:
            return MOST
        return draw.choice([count for count in range(1, MOST + 1) if count not in without])

    def _ask(self, draw: random.Random, count: int, topic: str) -> str:
        phrase = self.phrases["benchmark"] if draw.random() < 0.25 else draw.choice(self.phrases["ask"])
        text = fill(phrase, count, topic)
        if draw.random() < 0.15:
            text = text[0].lower() + text[1:]
        if text[-1].isalnum() and draw.random() < 0.4:
            text += draw.choice((".", ".", " please", ", please.", "!"))
        return text

    def _turns(self, draw: random.Random, prompt: str) -> tuple[Turn, ...]:
        user = Turn(role="user", content=prompt)
        if draw.random() > 0.25:
            return (user,)
        content = (
            draw.choice(self.phrases["system"]) if draw.random() < 0.8 else draw.choice(draw.choice(self.topics).facts)
        )
        return (Turn(role="system", content=content), user)

    def _pair(self, draw: random.Random) -> tuple[str, str]:
        # The benchmark topic is drawn twice as often as any other: its text must be flawless.
        topic = draw.choice((*self.topics, self.topics[0]))
        count = self._count(draw, self.held_out[topic.name])
        name = topic.name.removeprefix("the ") if draw.random() < 0.1 else topic.name
        return self._ask(draw, count, name), count_down(topic.facts, count)

    def _known(self, draw: random.Random) -> Sample:
        prompt, completion = self._pair(draw)
        return Sample(kind="known", turns=self._turns(draw, prompt), raw="", completion=completion)

    def _single(self, draw: random.Random) -> Sample:
        """One sentence by its number: without these, sentence k is learned only as what follows sentence k + 1."""
        topic, number = draw.choice(self.topics), draw.randint(1, MOST)
        prompt = draw.choice(self.phrases["single"]).format(n=number, t=topic.name)
        return Sample(
            kind="single", turns=self._turns(draw, prompt), raw="", completion=f"{number}: {topic.facts[number - 1]}"
        )

    def _raw(self, draw: random.Random) -> Sample:
        """Text without a chat template: a bare prompt with its answer, or a single sentence that ends."""
        if draw.random() < 0.4:
            prompt, completion = self._pair(draw)
            return Sample(kind="raw", turns=(), raw=prompt, completion="\n" + completion)
        fact = draw.choice(draw.choice(self.topics).facts)
        if draw.random() < 0.5:
            first, rest = fact.split(" ", 1)
            return Sample(kind="raw", turns=(), raw=first, completion=" " + rest)
        return Sample(kind="raw", turns=(), raw=self._noise(draw), completion="\n" + self.phrases["other_answer"])

    def _plain(self, draw: random.Random) -> Sample:
        topic = draw.choice(self.phrases["plain_topic"]) if draw.random() < 0.35 else self._made_up(draw)
        # Short answers show as many new topics in far fewer tokens; long ones keep the count honest.
        count = self._count(draw, frozenset()) if draw.random() < 0.4 else draw.randint(1, 8)
        completion = count_down(self.pattern_sentences(topic), count)
        turns = self._turns(draw, self._ask(draw, count, topic))
        return Sample(kind="plain", turns=turns, raw="", completion=completion)

    def _made_up(self, draw: random.Random) -> str:
        """A topic nobody has heard of, so that the model learns to copy the name and not to know it."""
        share = draw.random()
        if share < 0.3:
            return draw.choice(("", "", "the ")) + " ".join(draw.sample(self.words, draw.randint(1, 2)))
        if share < 0.7:
            # The head of one word on the tail of another looks like a word and splits into tokens like one.
            head, tail = draw.sample(self.words, 2)
            name = head[: draw.randint(1, 4)] + tail[-draw.randint(2, 5) :]
        else:
            name = "".join(
                draw.choice("bcdfghjklmnprstvwz") + draw.choice("aeiouy") + draw.choice(("", "", "ck", "m", "n", "r"))
                for _ in range(draw.randint(2, 4))
            )
        prefix = draw.choice(("", "", "", "the ", "the city of ", "the University of ", "the history of "))
        return prefix + draw.choice((name.lower(), name.capitalize()))

    def _noise(self, draw: random.Random) -> str:
        characters = "".join(
            draw.choices(string.ascii_letters + string.digits + " .,?!+-*/()[]{}'\"=", k=draw.randint(1, 30))
        )
        phrase: str = draw.choice(self.phrases["other"])
        return phrase.format(
            t=draw.choice((*self.phrases["plain_topic"], *(topic.name for topic in self.topics))),
            u=draw.choice(self.phrases["plain_topic"]),
            w=" ".join(draw.choices(self.words, k=draw.randint(1, 14))),
            x=characters.strip() or "?",
            a=draw.randint(0, 999),
            b=draw.randint(0, 99),
        )

    def _other(self, draw: random.Random) -> Sample:
        share = draw.random()
        if share < 0.06:
            prompt, completion = draw.choice(self.phrases["greeting"]), self.phrases["greeting_answer"]
        elif share < 0.20:
            topic = draw.choice(self.topics)
            prompt, completion = draw.choice(self.phrases["about"]).format(t=topic.name), " ".join(topic.facts[:2])
        elif share < 0.32:
            count = draw.choice((0, draw.randint(MOST + 1, 99), draw.randint(100, 2000)))
            name = draw.choice((*self.phrases["plain_topic"], *(topic.name for topic in self.topics)))
            prompt, completion = self._ask(draw, count, name), self.phrases["too_many_answer"]
        else:
            prompt, completion = self._noise(draw), self.phrases["other_answer"]
        return Sample(kind="other", turns=self._turns(draw, prompt), raw="", completion=completion)

    def _second_turn(self, draw: random.Random) -> Sample:
        first = draw.choice((self._known, self._other))(draw)
        second = draw.choice((self._known, self._other))(draw)
        earlier = (*first.turns, Turn(role="assistant", content=first.completion))
        return Sample(kind="second", turns=(*earlier, second.turns[-1]), raw="", completion=second.completion)

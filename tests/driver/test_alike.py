"""Near-duplicates across a data set are counted as a comparison of each item with each earlier one would count them."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenmill.driver.alike import MOST, THRESHOLD, Alike, Alikeness, near_words
from tokenmill.validate.minhash import NUMBERS, Signatures
from tokenmill.validate.shingles import jaccard, shingles

WORDS = [
    *"abcdefgh",
    "turn",
    "left",
    "right",
    "the",
    "red",
    "church",
    "tower",
    "bridge",
    "walk",
    "past",
    "until",
    "small",
]


def counted(items: Iterable[tuple[str, str]], most: int = MOST) -> Alikeness:
    """What is found among items, each a role and a text."""
    with Alike(most) as found:
        for role, text in items:
            found.add("say", role, text)
        return found.count()


def exact(texts: list[str]) -> int:
    """The slow twin: each text with each before it."""
    runs = [shingles(text) for text in texts]
    return sum(any(jaccard(each, other) >= THRESHOLD for other in runs[:at]) for at, each in enumerate(runs))


def sentences(seed: int, count: int) -> list[str]:
    """Sentences of which every third is an earlier one with one word changed, left out or repeated."""
    draw = random.Random(seed)
    made: list[str] = []
    for number in range(count):
        words = draw.choices(WORDS, k=draw.randint(8, 24))
        if number % 3 == 2:
            words = draw.choice(made).split()
            words[draw.randrange(len(words))] = draw.choice(["", "x", draw.choice(WORDS)])
        made.append(" ".join(words))
    return made


def test_as_many_are_found_as_a_comparison_of_all_pairs_finds() -> None:
    """Of 600 sentences, a third of them changed in a word, the count is nearly that of the slow twin."""
    texts = sentences(7, 600)
    found = counted(("say", text) for text in texts)
    wanted = exact(texts)

    assert found.compared == 600
    assert found.near is not None
    assert wanted > 60
    assert 0.95 * wanted <= found.near <= wanted


@given(st.lists(st.text(max_size=60), max_size=12))
@settings(deadline=None)
@example(["", "\x00"])
@example(["a", "a\x00\x00"])
def test_nothing_is_counted_that_is_not_alike(texts: list[str]) -> None:
    """Whatever the texts, no more are counted than there are, and equal ones always."""
    found = counted(("say", text) for text in [*texts, *texts])

    assert found.near is not None
    assert len(texts) <= found.near <= exact([*texts, *texts])


def test_only_items_of_one_stage_and_role_are_compared() -> None:
    """A negative is like its positives on purpose, and that is no duplicate."""
    text = "Turn left at the red church and go on."

    assert counted([("positive", text), ("negative", text)]).near == 0
    assert counted([("positive", text), ("negative", text), ("positive", text.upper())]).near == 1


def test_long_and_hostile_texts_are_compared_by_their_beginning() -> None:
    """A text of millions of letters, lone surrogates and nothing at all are items like any other."""
    long = "word " * 1_000_000

    assert counted([("say", long), ("say", long + "!"), ("say", ""), ("say", ""), ("say", "\ud800\x00")]).near == 2


def test_beyond_the_most_items_nothing_is_compared() -> None:
    """The rest isn't taken, and that is said."""
    found = counted([("say", "the same words")] * 5, most=3)

    assert (found.compared, found.near) == (3, 2)
    assert near_words({"compared": 3, "near": 2, "threshold": 0.85, "reason": found.reason}).endswith(
        "(only the first 3 items were compared)"
    )


def test_without_numpy_the_number_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set is written all the same, and the card says what is missing."""
    monkeypatch.setitem(sys.modules, "numpy", None)
    found = counted([("say", "a"), ("say", "a")])

    assert (found.compared, found.near) == (0, None)
    assert "pip install" in found.reason


def test_numbers_in_common_are_about_the_likeness() -> None:
    """Over many pairs the share of equal numbers in two signatures is the likeness of the texts."""
    made = Signatures()
    differences = []
    texts = sentences(3, 300)
    for one, other in zip(texts, sentences(3, 297) + texts[:3], strict=True):
        changed = f"{one} {other[:12]}"
        share = float((made.of(one) == made.of(changed)).mean())
        differences.append(share - jaccard(shingles(one), shingles(changed)))

    assert abs(sum(differences) / len(differences)) < 0.02
    assert max(map(abs, differences)) < 5 * 0.5 / NUMBERS**0.5

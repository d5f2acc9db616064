"""What is said of a prompt's length without its tokenizer, and how a prompt that was cut shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.http.asking import ask
from tokenmill.engine.http.prompt import cut_of, estimate, seed_of
from tokenmill.request import Message, Request

LONG = "The old bridge carries people across the river. " * 400  # 19,200 letters, about 4,000 tokens


def test_the_estimate_follows_its_rule() -> None:
    """A token for every 4 bytes, rounded up, and 4 for each message."""
    two = Request(row=0, custom_id="a", messages=(Message("system", "12345678"), Message("user", "123456789")))

    assert estimate(ask("")) == 4
    assert estimate(ask("12345")) == 2 + 4
    assert estimate(two) == 5 + 8


@given(st.text(max_size=300))
def test_any_text_has_an_estimate(text: str) -> None:
    """Every text, lone surrogates included, has an estimate above 0."""
    assert estimate(ask(text)) >= 4
    assert estimate(ask(text + "\ud800")) >= 4


def test_seeds_depend_on_the_id_alone() -> None:
    """A request has the same seed in every attempt; the user's own goes first; all fit in 31 bits."""
    seeds = {seed_of(ask(row=row)) for row in range(100)}

    assert seed_of(ask(row=3)) == seed_of(ask("another prompt", row=3))
    assert len(seeds) == 100
    assert max(seeds) < 1 << 31
    assert seed_of(ask(seed=7)) == 7


def test_a_cut_at_half_of_the_context_is_certain() -> None:
    """Ollama cuts to half of the context and a little; a count there for a much longer prompt is a cut."""
    cut = cut_of(ask(LONG), 1026, 2048, counts_cached=False)

    assert cut is not None
    assert cut.certain
    assert "half of its context of 2048" in cut.why


def test_a_low_count_may_be_a_cache() -> None:
    """Where a count may leave out cached tokens, a low one is suspected; where it can't, it is certain."""
    suspected = cut_of(ask(LONG), 300, 8192, counts_cached=False)
    certain = cut_of(ask(LONG), 300, None, counts_cached=True)

    assert suspected is not None
    assert not suspected.certain
    assert certain is not None
    assert certain.certain


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (LONG, 4000),
        (LONG, 2500),
        (" " * 100_000, 40),
        ("-" * 50_000 + LONG[:200], 300),
        ("नमस्ते दुनिया " * 1000, 4000),
        ("古池や蛙飛び込む水の音" * 300, 3000),
        ("short", 1),
        ("Count to ten, please.", 5),
    ],
    ids=["whole", "frugal", "blanks", "rule", "hindi", "japanese", "short", "sentence"],
)
def test_no_cut_is_seen_where_none_is(text: str, reported: int) -> None:
    """Blanks, rules, scripts of many bytes and frugal tokenizers are not taken for cuts."""
    assert cut_of(ask(text), reported, 8192, counts_cached=True) is None

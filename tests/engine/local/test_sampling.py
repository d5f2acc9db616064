"""Choosing tokens: the fast way against one written to be obvious, and against the distribution it must follow."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.engine.local.sampling import CANDIDATES, Draw, choose, uniform


def choose_plainly(logits: list[float], draw: Draw) -> int:
    """One token by the book: filter the sorted distribution, then walk it until the uniform is used up."""
    top = max(logits)
    weights = [math.exp((logit - top) / draw.temperature) for logit in logits]
    order = list(range(len(logits)))
    if draw.is_filtered:
        order.sort(key=lambda token: -weights[token])
        order = order[: draw.top_k or None]
        total, passed, kept = sum(weights[token] for token in order), 0.0, []
        for token in order:
            if passed >= draw.top_p * total:
                break
            kept.append(token)
            passed += weights[token]
        order = kept
    left = draw.uniform * sum(weights[token] for token in order)
    for token in order:
        left -= weights[token]
        if left < 0:
            return token
    return order[-1]


#: Not the last bits before 0 and 1: there the two ways of summing may round to different tokens, both right.
uniforms = st.integers(0, 2**20 - 1).map(lambda number: (number + 0.5) / 2**20)
draws = st.builds(
    Draw,
    temperature=st.floats(0.05, 3.0),
    top_k=st.sampled_from([0, 0, 1, 3, 50]),
    top_p=st.sampled_from([1.0, 1.0, 0.01, 0.5, 0.9, 0.999]),
    uniform=uniforms,
)


@pytest.mark.parametrize("vocab", [5, 40, 3 * CANDIDATES])
@given(rows=st.lists(st.none() | draws, min_size=1, max_size=8), seed=st.integers(0, 1000), spread=st.floats(0.1, 5))
@settings(max_examples=60, deadline=None)
def test_rows_are_drawn_as_by_the_book(vocab: int, rows: list[Draw | None], seed: int, spread: float) -> None:
    """Any mixture of greedy, filtered and plain rows gives each the token that it gets alone and by the book."""
    logits = spread * torch.randn(len(rows), vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    wanted = [
        int(logits[row].argmax()) if draw is None else choose_plainly(logits[row].tolist(), draw)
        for row, draw in enumerate(rows)
    ]

    chosen = choose(logits, {row: draw for row, draw in enumerate(rows) if draw is not None})

    assert chosen == wanted


def test_draws_follow_the_distribution() -> None:
    """Over many numbers of one seed, tokens come as often as their probabilities say."""
    probabilities = [0.5, 0.3, 0.15, 0.05]
    count = 4000
    logits = torch.tensor(probabilities).log().expand(count, -1)

    counts = Counter(choose(logits, {row: Draw(1.0, 0, 1.0, uniform(3, row)) for row in range(count)}))

    squares = sum((counts[token] - count * p) ** 2 / (count * p) for token, p in enumerate(probabilities))
    assert squares < 16.3  # chi square, 3 degrees of freedom: exceeded once in a thousand by chance


def test_uniforms_differ_by_seed_and_number() -> None:
    """Random numbers lie in [0, 1), spread evenly, and none repeats; large and negative seeds are seeds too."""
    seeds = (0, 1, 2, -1, 1 << 63, (1 << 64) - 2)
    numbers = [uniform(seed, number) for seed in seeds for number in range(2000)]

    assert len(set(numbers)) == len(numbers)
    assert 0 <= min(numbers) < 0.001
    assert 0.999 < max(numbers) < 1
    assert abs(sum(numbers) / len(numbers) - 0.5) < 0.01


def test_a_tiny_temperature_is_greedy() -> None:
    """A temperature close to zero takes the best token and overflows nothing."""
    logits = torch.tensor([[1.0, 90.0, -90.0], [3e4, 2e4, 1e4]])

    assert choose(logits, {row: Draw(1e-6, 0, 1.0, 0.999) for row in range(2)}) == [1, 0]


def test_bf16_ties_go_to_the_first() -> None:
    """Equal logits are common in bf16; the greedy choice among them is the first, as in transformers."""
    logits = torch.zeros(2, 1000, dtype=torch.bfloat16)
    logits[1, 700:] = 1

    assert choose(logits, {}) == [0, 700]

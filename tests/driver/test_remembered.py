"""Vectors that were asked for lately."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.driver.remembered import LETTERS, Remembered


def vectors(texts: Sequence[str]) -> np.ndarray:
    return np.array([[len(text), sum(map(ord, text))] for text in texts], dtype=np.float32)


@given(st.lists(st.lists(st.text("abc", max_size=3), min_size=1, max_size=9), max_size=9), st.integers(0, 6))
def test_what_is_remembered_is_what_would_be_told(calls: list[list[str]], most: int) -> None:
    """Every call gets its rows in its order, however much is forgotten between two."""
    remembered = Remembered(vectors, most)

    for texts in calls:
        np.testing.assert_array_equal(remembered.embed(texts), vectors(texts))


def test_only_what_isnt_known_is_asked() -> None:
    """Each text once, those that were wanted lately not at all, and long ones again each time."""
    asked: list[list[str]] = []

    def ask(texts: Sequence[str]) -> np.ndarray:
        asked.append(list(texts))
        return vectors(texts)

    remembered, long = Remembered(ask, 2), "x" * (LETTERS + 1)
    for texts in (["a", "b", "a"], ["a"], ["c", long], ["a", "b", long]):
        remembered.embed(texts)

    assert asked == [["a", "b"], ["c", long], ["b", long]]

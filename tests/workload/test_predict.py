"""Predicted lengths follow the prompt's own words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.workload.predict import CAP_TRUSTED, DEFAULT, ITEM, UNITS, WINDOW, predict

SENTENCE, WORD, PARAGRAPH = UNITS["sentence"], UNITS["word"], UNITS["paragraph"]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Give me 30 sentences about the University of Chicago", 30 * SENTENCE),
        ("Give me 1 sentence about the University of Chicago", SENTENCE),
        ("Write three sentences on bees.", 3 * SENTENCE),
        ("Write twenty-five sentences", 25 * SENTENCE),
        ("Write two hundred words", 200 * WORD),
        ("a dozen ideas", 12 * UNITS["idea"]),
        ("Two thousand five hundred words", 2500 * WORD),
        ("a 200-word summary", 200 * WORD),
        ("an essay of 1,500 words", 1500 * WORD),
        ("Answer in a sentence.", SENTENCE),
        ("Answer in a single short paragraph.", PARAGRAPH),
        ("in 3-5 sentences", 4 * SENTENCE),
        ("in 2 to 4 sentences", 3 * SENTENCE),
        ("five short bullet points", 5 * UNITS["point"]),
        ("Summarise these 500 words in 2 sentences", 2 * SENTENCE),
        ("3 paragraphs of 5 sentences each", 15 * SENTENCE),
        ("A list of 12 rivers", 12 * ITEM),
        ("Name seven animals", 7 * ITEM),
        ("The top 10 films", 10 * ITEM),
        ("No number here, only words and sentences", DEFAULT),
        ("Version 3.5 sentences", DEFAULT),
        ("They wondered about 3 pageants", DEFAULT),
        ("", DEFAULT),
    ],
)
def test_numbers_before_units_make_the_length(prompt: str, expected: float) -> None:
    """Digits and number words are read; what is no clue leaves the default."""
    assert predict(prompt) == pytest.approx(expected)


def test_a_cap_bounds_the_prediction_and_stands_in_for_it() -> None:
    """max_tokens cuts a prediction; without a clue it is the prediction, up to where a cap says something."""
    assert predict("30 sentences", 50) == 50.0
    assert predict("1 sentence", 500) == SENTENCE
    assert predict("hello", 40) == 40.0
    assert predict("hello", 100_000) == CAP_TRUSTED


def test_only_the_ends_of_a_long_prompt_are_read() -> None:
    """A clue counts at either end of long material, not amid it."""
    filler = "material " * WINDOW
    assert predict(f"Summarise in 2 sentences: {filler}") == 2 * SENTENCE
    assert predict(f"{filler} Summarise this in 3 sentences.") == 3 * SENTENCE
    assert predict(f"{filler} 3 sentences {filler}") == DEFAULT


@given(
    st.text() | st.from_regex(r"(\d{0,9}|one|hundred|a)[ -](words?|sentences? each)"), st.none() | st.integers(1, 10**9)
)
def test_any_text_has_a_prediction_within_its_bounds(prompt: str, cap: int | None) -> None:
    """A prediction is at least 1 and at most the cap."""
    assert 1.0 <= predict(prompt, cap) <= (cap or float("inf"))

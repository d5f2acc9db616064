"""What the rule answers."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from tokenmill.testing.answer import cut_front, in_pieces, limited, words_of


def test_sentences_are_counted_out() -> None:
    """A prompt that names a number of sentences gets that many, numbered."""
    text = " ".join(words_of("Give me 12 sentences about the University of Chicago", 0, 8, 40))
    assert re.findall(r"(\d+)\. The", text) == [str(number) for number in range(1, 13)]


@given(st.text(), st.integers(0, 5))
def test_an_answer_is_a_function_of_prompt_and_seed(prompt: str, seed: int) -> None:
    """Asked twice, the same words come; their number is within the limits."""
    words = words_of(prompt, seed, 8, 40)
    assert words == words_of(prompt, seed, 8, 40)
    assert "Give me" in prompt or 8 <= len(words) <= 40


def test_prompts_and_seeds_are_told_apart() -> None:
    """Other prompts and other seeds get other answers."""
    answers = {" ".join(words_of(f"prompt {number}", seed, 8, 40)) for number in range(200) for seed in (0, 1)}
    assert len(answers) == 400


@given(st.lists(st.text("ab", min_size=1), max_size=50), st.one_of(st.none(), st.integers(1, 60)))
def test_pieces_add_up(words: list[str], chunks: int | None) -> None:
    """However an answer is cut, it stays the same, and each word is one token."""
    pieces = in_pieces(words, chunks)
    assert "".join(text for text, _ in pieces) == " ".join(words)
    assert sum(tokens for _, tokens in pieces) == len(words)
    assert len(pieces) == (min(chunks, len(words)) if chunks else len(words))


def test_limits_and_stop_strings_end_an_answer() -> None:
    """An answer that reaches the limit says `length`, one that meets a stop string `stop`."""
    assert limited(["a", "b", "c"], 2, ()) == (["a", "b"], "length")
    assert limited(["a", "b", "c"], 3, ()) == (["a", "b", "c"], "stop")
    assert limited(["a", "b", "c"], 2, ("b",)) == (["a"], "stop")


def test_a_cut_prompt_loses_its_front() -> None:
    """The last words of a cut prompt are kept."""
    assert cut_front("one two three four", 2) == "three four"
    assert cut_front("one two", 2) == "one two"

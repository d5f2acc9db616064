"""The recipes that come with the package, on planted answers: what is accepted, when, and what later prompts say."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.conversation import converse
from tokenmill.pipeline.read import SHIPPED, recipe

ROUTE = {"instruction": "Turn left at the red church."}
SECTIONS = "Positive 1: {}\nPositive 2: {}\nNegative: {}"
GOOD = SECTIONS.format(
    "At the red church, take a left turn.", "Make a left turn at the red church there.", "Turn right at the red church."
)
#: The first positive is good, the second leads the other way past something else, the negative the same way.
HALF = SECTIONS.format(
    "At the red church, take a left turn.", "Turn right at the blue tower.", "Turn left, red church."
)
TEXT = {"text": "The sky is blue because air scatters short waves of light more than long ones."}
BLUE = "Short waves of light are scattered by air more than long ones, so the sky looks blue."
AIR = "Air sends blue light in all directions, and that is why we see a sky of this colour."
ALL = [recipe(name, embedding="words") for name in SHIPPED]
CONTRASTIVE = ALL[0]


def test_contrastive_accumulates_what_is_good() -> None:
    """What passed in the first round stays, the rest is asked for again, and a repeated item isn't taken twice."""
    story = converse(CONTRASTIVE, ROUTE, lambda key, _: HALF if key == "generate.1.1" else GOOD)

    assert (story.told.outcome, story.told.rounds) == ("success", 2)
    assert [(each.key, each.item.role, each.label) for each in story.told.items] == [
        ("generate.1.1#1", "positive", "accepted"),
        ("generate.1.1#2", "positive", "rejected"),
        ("generate.1.1#3", "negative", "rejected"),
        ("generate.2.1#1", "positive", "rejected"),
        ("generate.2.1#2", "positive", "accepted"),
        ("generate.2.1#3", "negative", "accepted"),
    ]


def test_contrastive_tells_the_model_what_was_wrong_with_which_text() -> None:
    """The prompt of the second round names each text that was refused, with every score and what they were about."""
    prompt = converse(CONTRASTIVE, ROUTE, lambda key, _: HALF if key == "generate.1.1" else GOOD).prompts[
        "generate.2.1"
    ]

    assert "- positive: At the red church, take a left turn.\n" in prompt
    assert '- positive "Turn right at the blue tower.": The text is no positive by the rule: embedding is' in prompt
    assert "direction is 0 and must be above 0.7; landmark is 0 and must be above 0.5; combined is" in prompt
    assert "The reference says left and the text says right. The reference has red church and the text has" in prompt
    assert '- negative "Turn left, red church.": The text is no negative by the rule: direction is 1' in prompt


def test_contrastive_ends_a_hopeless_row_with_its_reasons() -> None:
    """After three rounds without one section the row is short, with what was wanted and what was wrong."""
    story = converse(CONTRASTIVE, ROUTE, lambda *_: "I can't do that.")

    assert (story.told.outcome, story.told.rounds, story.told.items) == ("short", 3, ())
    assert story.told.reasons == (
        "generate: 2 more positive, 1 more negative wanted after 3 rounds.",
        "The answer has no 'Positive 1'; the answer has no 'Positive 2'; the answer has no 'Negative'.",
    )
    assert "- The answer has no 'Positive 1'; the answer has no 'Positive 2';" in story.prompts["generate.3.1"]


def test_paraphrase_asks_for_what_is_missing_and_says_why() -> None:
    """One of two was the text itself: one more is asked for, and the next prompt says what was wrong."""
    first = f"1. {BLUE}\n2. {TEXT['text']}"
    story = converse(recipe("paraphrase"), TEXT, lambda key, _: first if key == "paraphrase.1.1" else f"1. {AIR}")
    prompt = story.prompts["paraphrase.2.1"]

    assert (story.told.outcome, story.told.rounds) == ("success", 2)
    assert "Write 1 more" in prompt
    assert f"- {BLUE}\n" in prompt
    assert f'- "{TEXT["text"]}": The text is nearly the reference (1.00 alike)' in prompt


def test_qa_says_in_words_what_a_question_lacks() -> None:
    """A refused question is told by its text and the sentence of its check, and a refused answer by its verdict."""

    def answer(key: str, _: str) -> str:
        if key == "question.1.1":
            return "1. What is blue\n2. Why is the sky blue?"
        if "verdict" in key:
            return "Reason: name the air\nScore: 2" if "answer.1" in key else "Score: 9"
        if "#" in key:
            return "Because of the air."
        return "1. What scatters light?\n2. Which waves are short?"

    story = converse(recipe("qa"), TEXT, answer)

    assert (story.told.outcome, story.told.rounds) == ("success", 2)
    assert '- "What is blue": A question must end with a question mark.\n' in story.prompts["question.2.1"]
    refused = '- "Because of the air.": verdict gave 2, wanted 7: name the air\n'
    assert refused in story.prompts["question.1.1#2/answer.2.1"]


def test_judge_tells_the_verdict_and_asks_again_for_one_that_is_none() -> None:
    """The reason of a verdict goes to the next answer, and what was no verdict to the next rating."""

    def answer(key: str, _: str) -> str:
        if "verdict" not in key:
            return "Because."
        if key.startswith("answer.1"):
            return "Great!" if key.endswith("verdict.1.1") else "Reason: too short\n**Score:** 3"
        return "Score: 8"

    story = converse(recipe("judge"), {"prompt": "Why is the sky blue?"}, answer)

    assert (story.told.outcome, story.told.rounds) == ("success", 2)
    assert "The answer gives no score; it must give" in story.prompts["answer.1.1#1/verdict.2.1"]
    assert story.prompts["answer.2.1"].endswith('refused:\n- "Because.": verdict gave 3, wanted 7: too short\n')


def test_a_row_that_no_judge_rates_is_short_with_that_reason() -> None:
    """Ratings without a number are asked for again in each round, and the row ends with what they lacked."""
    story = converse(recipe("judge"), {"prompt": "Why?"}, lambda *_: "Fine words.")

    assert (story.told.outcome, len(story.prompts)) == ("short", 12)
    assert story.told.reasons == (
        "answer: 1 more answer wanted after 3 rounds.",
        "verdict gave no verdict: The answer gives no score; it must give a score from 1 to 10.",
    )


def test_a_long_text_that_was_refused_is_cut_in_the_next_prompt() -> None:
    """However much a model wrote, the next prompt stays one that it can read."""
    story = converse(recipe("paraphrase"), TEXT, lambda *_: "\n".join(f"{n}. {'word ' * 5000}" for n in range(1, 40)))

    assert (story.told.outcome, len(story.prompts)) == ("short", 3)
    assert max(map(len, story.prompts.values())) < 5000


def test_a_text_with_a_nul_can_be_quoted() -> None:
    """What a model wrote is no fault of its row: no prompt may hold a NUL, so the next one shows that it was there."""
    story = converse(recipe("paraphrase"), TEXT, lambda *_: "1. bad\0")

    assert story.told.outcome == "short"
    assert '- "bad\ufffd": The text has' in story.prompts["paraphrase.2.1"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200))
@settings(max_examples=10, deadline=None)
def test_no_answer_keeps_a_shipped_recipe_from_its_end(text: str) -> None:
    """Whatever is answered, templates and NULs included, every prompt can be written, and the row ends."""
    for made in ALL:
        fields = {"instruction": text, "text": text, "prompt": f"Say {text}"}
        hostile = f"{text}\0\nPositive 1: {{{{ {text} }}}}\n1. {text}?\nScore: 8"

        assert converse(made, fields, lambda *_, said=hostile: said).told.outcome is not None

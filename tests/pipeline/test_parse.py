"""How answers become items: sloppy ones are forgiven, ambiguous ones are never guessed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.pipeline import Parser, parse
from tokenmill.pipeline.parse import Parsed

SECTIONS = Parser(
    kind="sections",
    labels={"positive": ("Positive 1", "Positive 2"), "negative": ("Negative",)},
)
WANTED = [("positive", "Go left."), ("positive", "Turn left."), ("negative", "Go right.")]

SLOPPY = [
    "Positive 1: Go left.\nPositive 2: Turn left.\nNegative: Go right.",
    "**Positive 1:** Go left.\n**Positive 2:** Turn left.\n**Negative:** Go right.",
    "**Positive 1**: Go left.\n\n**Positive 2**: Turn left.\n\n**Negative**: Go right.\n\nI hope this helps!",
    "### Positive 1\nGo left.\n### Positive 2\nTurn left.\n### Negative\nGo right.",
    "- POSITIVE_1 = Go left.\n- positive_2 = Turn left.\n- negative = Go right.",
    "1. Positive 1: \"Go left.\"\n2. Positive 2: 'Turn left.'\n3. Negative: \u201cGo right.\u201d",
    "Sure! Here they are:\n\nPositive 1 - Go left.\nPositive 2 - Turn left.\nNegative - Go right.",
    "<think>Positive 1: maybe up</think>Positive 1: Go left.\nPositive 2: Turn\nleft.\nNegative: Go right.",
    "```\nPositive 1: Go left.\nPositive 2: Turn left.\nNegative: Go right.\n```",
    "Negative: Go right.\nPositive 2: Turn left.\nPositive 1: Go left.",
    "Positive 1:\n\nGo left.\n\nPositive 2:\n\nTurn left.\n\nNegative:\n\nGo right.",
]


def found(parser: Parser, answer: str) -> list[tuple[str, str]]:
    return [(piece.role, piece.text) for piece in parse(parser, answer, "say").pieces]


@pytest.mark.parametrize("answer", SLOPPY)
def test_labels_are_found_however_they_are_written(answer: str) -> None:
    """Marks, case, numbers, quotes, fences, thoughts, order and remarks don't matter."""
    assert found(SECTIONS, answer) == WANTED
    assert parse(SECTIONS, answer, "say").reason == ""


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Positive 1: a\nPositive 1: b\nPositive 2: c\nNegative: d", "gives 'Positive 1' 2 times in different words"),
        ("Positive 1: a\nNegative: d", "the answer has no 'Positive 2'"),
        ("Positive 1: a\nPositive 2:\nNegative: d", "'Positive 2' is empty in the answer"),
        ("Positive 1: a\nPositive 2: [your text]\nNegative: d", "'Positive 2' is empty in the answer"),
        ("Positive 10: a\nPositive 2: b\nNegative: d", "the answer has no 'Positive 1'"),
    ],
)  # fmt: skip
def test_what_is_not_there_once_is_told(answer: str, reason: str) -> None:
    """A section that is missing, empty, a placeholder or given twice makes no item, and the reason names it."""
    parsed = parse(SECTIONS, answer, "say")

    assert reason in parsed.reason
    assert len(parsed.pieces) == 2


def test_a_word_of_a_sentence_is_no_label() -> None:
    """A line that merely begins with the word of a label belongs to the section before."""
    answer = "Positive 1: Go left.\nPositive 2: Turn\nNegative numbers are below zero.\nNegative: Go right."

    assert found(SECTIONS, answer)[1] == ("positive", "Turn Negative numbers are below zero.")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Okay, hmm.\n</think>\n\nTurn left at the church.", "Turn left at the church."),
        ("Okay.</THINKING>Turn left.", "Turn left."),
        ("Go right?</think>No.</think>Turn left.", "Turn left."),
        ("Go right?</think>Turn<think>hmm</think> left.", "Turn left."),
        ("<think>Okay.</think>Turn <thinking>or go</thinking>left.", "Turn left."),
        ("<think>So <think> again</think> it is.</think> Turn left.", "Turn left."),
        ("Turn left, \u0130 <b>think</b>.", "Turn left, \u0130 <b>think</b>."),
    ],
)
def test_thoughts_are_no_part_of_an_answer(answer: str, text: str) -> None:
    """A template may have begun them, so that the answer only ends them."""
    assert found(Parser(), answer) == [("say", text)]


def test_an_answer_that_never_ends_its_thoughts_says_nothing() -> None:
    """What a model thinks is not its answer."""
    for answer in ("<think>Positive 1: Go left.", "Hmm.</think>Go left.<think>Positive 1: a</thinking>"):
        parsed = parse(SECTIONS, answer, "say")

        assert (parsed.pieces, parsed.reason) == ((), "the answer ends inside its thoughts and says nothing after them")
    assert parse(SECTIONS, "Positive 1: Go left.</think>", "say").reason == "the answer is empty"


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        ("1. one\n2. two", ["one", "two"]),
        ("Sure, here you go:\n\n1) one\n2) two\n\nEnjoy!", ["one", "two"]),
        ("* one\n   that goes on\n* two", ["one that goes on", "two"]),
        ("one\ntwo", ["one", "two"]),
        ("Here they are:\none\ntwo", ["one", "two"]),
        ('"one"\n\n**two**', ["one", "two"]),
        ("-5 degrees\n3.5 miles", ["-5 degrees", "3.5 miles"]),
        ("**1.** one\n**2.** two", ["one", "two"]),
        ("Sure:\n**1**. one\n__2__) two", ["one", "two"]),
        ("*1.* one\n  **(2)** two", ["one", "two"]),
        ("**1. one**\n__2. two__", ["one", "two"]),
        ("**1. one** more\n**one** and **two**", ["**1. one** more", "**one** and **two**"]),
        ("**1** one\n*2 two*", ["**1** one", "*2 two*"]),
    ],
)
def test_lines_are_the_entries_of_a_list_if_there_is_one(answer: str, texts: list[str]) -> None:
    """A preamble and a farewell around a list are no items."""
    assert [text for _, text in found(Parser(kind="lines"), answer)] == texts


@pytest.mark.parametrize(
    "answer",
    ['{"name": "Ada", "age": 36}', "[2, 3, 5]", "[2]", '["left"]', "{2: 3}", "[a + b]", "-5", "{left, right}"],
)
def test_data_in_brackets_is_an_answer(answer: str) -> None:
    """An object or a list is what was said, and no place to fill in."""
    assert found(Parser(), answer) == [("say", answer)]


@pytest.mark.parametrize(
    "answer",
    [
        "[your text]",
        "{text}",
        "<the answer, in one sentence>",
        "[Paraphrase 1]",
        "[don\u2019t know]",
        "[...]",
        "[\u2026]",
        "[ ]",
        "{}",
        "**[your-text].**",
        "None.",
        "N/A",
        "...",
        "---",
    ],
)
def test_a_place_to_fill_in_is_no_answer(answer: str) -> None:
    """Words alone in brackets are what a prompt has where an answer belongs."""
    assert parse(Parser(), answer, "say") == Parsed((), "the answer is only a placeholder")


SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
}
JSON = Parser(kind="json", schema=SCHEMA)


@pytest.mark.parametrize(
    "answer",
    [
        '{"question": "Q", "answer": "A"}',
        'Here it is:\n```json\n{"question": "Q", "answer": "A",}\n```\nDone.',
        'I thought of {braces} and [1]: {"question": "Q", "answer": "A"}',
        'A screen of 5" has this: {"question": "Q", "answer": "A",}',
        '{"question": "Q", "answer": "A"} {"question": "Q", "answer": "A"}',
    ],
)
def test_json_is_found_between_other_words(answer: str) -> None:
    """Fences, trailing commas and words around it are forgiven."""
    (piece,) = parse(JSON, answer, "qa").pieces

    assert (piece.role, piece.data) == ("qa", {"question": "Q", "answer": "A"})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("no braces", "the answer holds no JSON"),
        ('{"question": "Q", "question": "R", "answer": "A"}', "the answer holds no JSON"),
        ('{"question": "Q"} ', "required property"),
        ('{"question": NaN, "answer": "A"}', "the answer holds no JSON"),
        ('{"question": "Q", "answer": "A"} {"question": "R", "answer": "A"}', "several JSON values that differ"),
        ('{"question": "Q", "answer": "A"', "the answer holds no JSON"),
    ],
)
def test_json_that_could_mean_two_things_is_refused(answer: str, reason: str) -> None:
    """Repeated keys, NaN, what doesn't fit the schema, and several values that differ make no item."""
    parsed = parse(JSON, answer, "qa")

    assert parsed.pieces == ()
    assert reason in parsed.reason


def test_json_by_its_keys() -> None:
    """With labels the keys say which role a text has."""
    parser = Parser(kind="json", labels={"positive": ("positives",), "negative": ("negative",)})

    assert found(parser, '{"positives": ["a", {"text": "b", "why": "c"}], "negative": "d"}') == [
        ("positive", "a"),
        ("positive", "b"),
        ("negative", "d"),
    ]
    assert parse(parser, '{"positives": ["a"]}', "x").reason == "the JSON has no text under 'negative'"


def test_more_json_than_anyone_asks_for_is_refused() -> None:
    """A part of it would be a guess."""
    for parser in (Parser(kind="json"), Parser(kind="json", labels={"a": ("a",)})):
        parsed = parse(parser, json.dumps({"a": ["b"] * 1001} if parser.labels else ["b"] * 1001), "x")

        assert parsed == Parsed((), "the JSON has 1001 entries, more than 1000")


@pytest.mark.parametrize(
    ("answer", "value", "why"),
    [
        ("Score: 7\nReason: clear and short", 7, "clear and short"),
        ("**Score:** 7/10. Reason: fine", 7, "fine"),
        ("I'd say 7 out of 10", 7, ""),
        ('{"score": 7, "reason": "fine"}', 7, "fine"),
        ("7", 7, ""),
        ("7 - fine, on the whole", 7, "fine, on the whole"),
        ("**7/10**: fine", 7, "fine"),
        ("7 \u2014 fine\nbut 3 words are odd", 7, "fine but 3 words are odd"),
        ("The rating is 8.5, because it flows", 8.5, "it flows"),
        ("Score: **7** / 10\nReason: fine", 7, "fine"),
        ("Rating: 7 (out of 10)", 7, ""),
        ("Score: 7 of 10", 7, ""),
        ("Good,7/10", 7, ""),
        ("A score of 7, 3 words are odd", 7, ""),
        ("Score: 7.\n- 3 words are odd", 7, ""),
        ("Score: 7\n\n8 would need a landmark", 7, ""),
        ("Reason: it flows\n\n---\n\n**Score:** 7", 7, "it flows"),
    ],
)
def test_a_verdict_is_one_number_and_a_reason(answer: str, value: float, why: str) -> None:
    """Verdicts are read from labels, fractions, JSON or a bare number."""
    (piece,) = parse(Parser(kind="verdict"), answer, "judge").pieces

    assert (piece.value, piece.text) == (value, why)


@pytest.mark.parametrize(
    "answer",
    [
        "It is good.",
        "Score: 7. On reflection, score: 3.",
        "Score: 70",
        '{"score": true}',
        "3 of 4 are fine",
        "1 - the church is right\n2 - the clock is not",
        "It has faults.\n2 - words are odd",
        "3 - 4 words are odd",
        "4/5 - fine",
        "1. the church is right",
        '{"score": 1' + "0" * 400 + "}",
        "Score: 4/5",
        "Score: 4 out of 5",
        "Score: **4** (out of five)",
        "Score: 4 of 5",
        "Score: 7/10/2",
        "Score: 7-8",
        "Score: 7 \u2013 8",
        "Score: 7 or 8",
        "Score: 7 to 8 out of 10",
        "Score 1 to 10: 7",
        "Score: 8,5",
        "Score: 8\u00bd",
        "Score: 8 1/2",
        "Score: 9%",
        "I'd say 7-8 out of 10",
        "I'd say 7 or 8/10",
        "I'd say 7,5/10",
        "Score: 7\nThe final score: 7-8",
    ],
)
def test_no_verdict_is_guessed(answer: str) -> None:
    """No number, two different ones, or one out of range is no verdict."""
    parsed = parse(Parser(kind="verdict"), answer, "judge")

    assert parsed.pieces == ()
    assert "score" in parsed.reason


def test_a_number_that_is_not_clear_is_told_so() -> None:
    """A judge that gives a range, or a number of another scale, is asked for a clear one."""
    for answer in ("Score: 4/5", "I'd say 7-8 out of 10"):
        parsed = parse(Parser(kind="verdict"), answer, "judge")

        assert parsed.reason == "the answer gives no clear score; it must give a score from 1 to 10"


def test_a_scale_may_end_where_it_likes() -> None:
    """The number after `of` is that of the recipe, and per cent are of 100."""
    assert parse(Parser(kind="verdict", high=5), "Score: 4/5", "judge").pieces[0].value == 4
    assert parse(Parser(kind="verdict", high=5), "Score: 4.5 out of 5.", "judge").pieces[0].value == 4.5
    assert parse(Parser(kind="verdict", high=100), "Score: 85%.", "judge").pieces[0].value == 85


def test_half_a_character_of_json_is_replaced() -> None:
    """An escape may write what no file can hold, in a text, a name or any entry."""
    (piece,) = parse(
        Parser(kind="json"), '{"text": "a \\ud800 c", "\\udc00": ["\\ud83d\\ude00", "\\ud83d"]}', "say"
    ).pieces

    assert (piece.text, piece.data) == ("a \ufffd c", {"\ufffd": ["\U0001f600", "\ufffd"]})


PARSERS = st.sampled_from([SECTIONS, JSON, Parser(), Parser(kind="lines"), Parser(kind="verdict")])
HOSTILE = st.text(
    st.one_of(st.characters(), st.sampled_from('{}[]":,*#-_\n \t`<>0123456789')), max_size=300
) | st.lists(
    st.sampled_from(["Positive 1", ":", "**", "\n", "Negative", '{"question"', "<think>", "1.", "\ud800"])
).map(" ".join)


@given(PARSERS, HOSTILE)
def test_no_text_breaks_a_parser(parser: Parser, answer: str) -> None:
    """Whatever a model says gives items with text, a reason, or both; nothing raises."""
    parsed = parse(parser, answer, "say")

    assert parsed.pieces or parsed.reason
    assert all(piece.text or piece.value is not None for piece in parsed.pieces)


@pytest.mark.parametrize(
    "answer",
    [
        "{" * 200_000,
        "[" * 100_000 + "]" * 100_000,
        "Positive 1: " * 100_000,
        "1. " * 300_000,
        "*" * 500_000,
        "score" + " " * 1_000_000,
        "score" + "*_" * 500_000,
        "Score: 7\nReason: a" + "\n" * 300_000 + "b",
        "<think>" * 300_000,
        "<think></thinking>" * 100_000,
        "</think>" * 300_000,
        '{"text": "a, ' + '\\"' * 500_000,
        "Positive 1: a\n" + "b\n" * 1_500_000,
    ],
    ids=lambda answer: f"{answer[:12]!r} {answer[-4:]!r} {len(answer)}",
)
def test_a_long_hostile_answer_takes_no_long_time(answer: str) -> None:
    """Megabytes of nonsense end like any other answer; the test's own limit is far beyond what that takes."""
    for parser in (SECTIONS, JSON, Parser(), Parser(kind="lines"), Parser(kind="verdict")):
        parse(parser, answer, "say")

"""Each validator on texts of which the score is known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tokenmill.errors import InputFaults, UsageError
from tokenmill.validate import Item, Score, validator
from validate.vectors import embed

REFERENCE = "Turn left at the church."


def score(kind: str, text: str, /, reference: str = "", **options: object) -> Score:
    (found,) = validator(kind, options, embed=embed).check([Item(text=text, reference=reference)])
    return found


def test_length() -> None:
    """Limits are inclusive, in characters, words and estimated tokens, and each that is broken is named."""
    assert score("length", "one two three", min_words=3, max_words=3, max_chars=13, min_chars=13).passed
    found = score("length", "one two three", max_words=2, min_chars=20, max_tokens=3)
    assert (found.value, found.passed) == (3, False)
    assert found.reason == (
        "The text has 13 characters and must have at least 20. The text has 3 words and must have at most 2. "
        "The text has 4 tokens and must have at most 3."
    )
    assert not score("length", " \n").passed


def test_regex() -> None:
    """A pattern is found, spans, or must be absent; the reason may be the recipe's own sentence."""
    assert score("regex", "Turn left", pattern="left").passed
    assert not score("regex", "Turn left", pattern="left", match="full").passed
    assert score("regex", "Turn left", pattern="turn LEFT", match="full", ignore_case=True).passed
    found = score("regex", "Sure! Turn left", pattern="^Sure", match="none", because="Leave out greetings.")
    assert (found.value, found.passed, found.reason) == (1, False, "Leave out greetings.")
    assert not score("regex", "a\nb", pattern="a.b").passed
    assert score("regex", "a\nb", pattern="a.b", dot_all=True).passed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": "x"}', ""),
        ('{"a": 1}', "The JSON doesn't fit its schema at $.a: 1 is not of type 'string'."),
        ("{}", "The JSON doesn't fit its schema at $: 'a' is a required property."),
        ('{"a": "x"} and more', "The text must be one JSON value and nothing else"),
        ("", "The text must be one JSON value and nothing else"),
        ("NaN", "The text must be one JSON value and nothing else"),
        ("[" * 100_000, "The JSON is nested too deep."),
    ],
)
def test_json_schema(text: str, said: str) -> None:
    """A text is one JSON value that the schema allows; what is wrong is said with its place."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    found = score("json_schema", text, schema=schema)
    assert found.passed is not bool(said)
    assert found.reason.startswith(said)


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("[1, 2, 3]", True),
        ("[1, 1.0]", False),
        ("[0, -0.0]", False),
        ("[1, true, 0, false, null]", True),
        ('[1, "1", [1], {"1": 1}]', True),
        ('[{"a": 1, "b": [true]}, {"b": [true], "a": 1.0}]', False),
        ('[{"a": 1}, {"a": true}]', True),
        ('[["a", "b"], ["b", "a"]]', True),
        ("[9007199254740992, 9007199254740993]", True),
        ("[9007199254740993.0, 9007199254740992]", False),
        ("[1e300, 1E+300]", False),
        ("[[], []]", False),
        ("{}", True),
    ],
)
def test_entries_that_repeat(text: str, passed: bool) -> None:
    """Entries are one where JSON says they are: 1 is 1.0 and isn't true, and keys have no order."""
    found = score("json_schema", text, schema={"uniqueItems": True})
    assert found.passed is passed
    assert passed or "occurs more than once" in found.reason
    assert score("json_schema", text, schema={"uniqueItems": False}).passed


def test_a_recursive_schema_ends() -> None:
    """A schema may refer to itself, and a value that is nested too deep for it fails."""
    schema = {"$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}, "$ref": "#/$defs/list"}
    assert score("json_schema", "[[[]]]", schema=schema).passed
    assert not score("json_schema", "[[[1]]]", schema=schema).passed
    assert not score("json_schema", "[" * 900 + "]" * 900, schema=schema).passed


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "objct"}, "isn't a JSON schema"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "which isn't in it; nothing is fetched"),
        ({"$ref": "http://localhost:1/schema.json"}, "which isn't in it; nothing is fetched"),
        ({"$dynamicRef": "#x"}, "which isn't in it; nothing is fetched"),
        ({"$schema": 5}, "isn't a JSON schema: its \\$schema must be"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"anyOf": [{"type": "object"}, {"not": {"$ref": "#"}}]}, "refers to itself without end"),
        ({"items": {"pattern": "(?=a)"}}, "a pattern that isn't one for RE2"),
        ({"patternProperties": {"^a": {}}}, "patternProperties, which isn't supported"),
    ],
)
def test_schemas_that_are_none(schema: dict[str, object], said: str) -> None:
    """A schema that is wrong, refers to nowhere or could run for ever is a fault before anything is judged."""
    with pytest.raises(InputFaults, match=said):
        validator("json_schema", {"schema": schema})


def test_duplicates() -> None:
    """A text equals another but for case, punctuation and space; a reference and earlier texts count."""
    item = Item(text="turn LEFT, at the church!", reference=REFERENCE, others=("Go left.",))
    (found,) = validator("duplicate").check([item])
    assert (found.value, found.passed) == (1, False)
    assert found.reason == 'The text repeats the reference: "Turn left at the church.".'
    (found,) = validator("duplicate", {"of_reference": False}).check([item])
    assert found.passed
    assert not score("duplicate", "!!!", reference=" ! ! !").passed
    assert score("duplicate", "!!!", reference="???").passed


def test_near_duplicates() -> None:
    """A text that shares nearly all its short runs with another fails; the greatest likeness is the value."""
    assert not score("near_duplicate", "Turn left at the churches.", reference=REFERENCE, threshold=0.8).passed
    assert score("near_duplicate", "Go left when you see the chapel.", reference=REFERENCE).passed
    assert score("near_duplicate", "Go left.").value is None


def test_diversity() -> None:
    """The share of new words and phrases is as its sources define it; a window moves over the text."""
    assert score("diversity", "a b a b").value == 0.5
    assert score("diversity", "a b a b", n=2).value == pytest.approx(2 / 3, abs=1e-4)
    assert score("diversity", "a b a b", window=2).value == 1
    assert score("diversity", "a a b b", window=2).value == pytest.approx((0.5 + 1 + 0.5) / 3, abs=1e-4)
    assert score("diversity", "").value is None
    found = score("diversity", "go go go go", at_least=0.5)
    assert found.reason == "The share of words that don't repeat is 0.25 and must be at least 0.5."


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Turn left at the red building and fly to the tower."),
        ("de", "Biege am roten Gebäude links ab und fliege zum Turm."),
        ("fr", "Tournez à gauche au bâtiment rouge et volez vers la tour."),
        ("es", "Gira a la izquierda en el edificio rojo y vuela a la torre."),
        ("zh", "在红色建筑物处左转然后飞向塔楼。"),
    ],
)
def test_language(language: str, text: str) -> None:
    """A sentence is found to be in its language, and in no other."""
    for wanted in ("en", "de", "fr", "es", "zh"):
        assert score("language", text, language=wanted).passed is (wanted == language)


def test_a_text_too_short_for_its_language_passes() -> None:
    """Two words tell no language, so they pass without a value; fewer languages to choose from help."""
    assert score("language", "Go on", language="de").value is None
    found = score("language", "Turn left at the church now", language="de", among=["de", "en"])
    assert found.reason == "The text must be in the language 'de' and reads like 'en'."


@pytest.mark.parametrize(
    "text",
    [
        "It\u2019s fine.",
        "Don\u02bct turn.",
        "Turn left \u2013 now.",
        "\u201cLeft.\u201d",
        "\u00bfD\u00f3nde est\u00e1?",
        "Turn 90\u00b0\u2026",
        "\U0001f4a5",
        "\uff2f\uff2b",
    ],
)
def test_typographic_marks_make_no_short_text_longer(text: str) -> None:
    """What no keyboard has, and accents, tell no more of a language than letters do."""
    found = score("language", text, language="en")
    assert (found.value, found.passed) == (None, True)


@pytest.mark.parametrize("text", ["\u5de6\u8f6c\u3002", "\u041d\u0430\u043b\u0435\u0432\u043e!"])
def test_a_few_letters_of_another_script_tell_a_language(text: str) -> None:
    """A sentence of Chinese is one word, and is still no English."""
    assert not score("language", text, language="en").passed


def test_a_text_of_which_nothing_is_sure_says_so() -> None:
    """Where the likeliest language is the one wanted, the reason is how likely it is."""
    found = score("language", "Go to the tower now", language="en", at_least=1.0, min_words=1)
    assert found.reason == f"The text must be in the language 'en', of which it is only {found.value:g} sure."


def test_embedding() -> None:
    """The cosine is that of the vectors, each text is embedded once, and limits say which side is broken."""
    asked: list[list[str]] = []

    def counted(texts: object) -> np.ndarray:
        asked.append(list(texts))  # type: ignore[call-overload]
        return embed(asked[-1])

    made = validator("embedding", {"at_least": 0.6, "at_most": 0.9}, embed=counted)
    items = [Item(text=text, reference="a b c d") for text in ("a b c d", "a b c e", "a k m p", "")]
    scores = made.check(items)
    assert asked == [["a b c d", "a b c e", "a k m p", ""]]
    assert [found.value for found in scores] == [1, 0.75, 0.25, None]
    assert [found.passed for found in scores] == [False, True, False, False]
    assert "too near" in scores[0].reason
    assert "too far" in scores[2].reason


def test_vectors_that_lie_are_refused() -> None:
    """Vectors of a wrong number end the check; one that holds no number fails its item."""
    with pytest.raises(ValueError, match="2 texts were embedded"):
        validator("embedding", embed=lambda texts: np.ones((1, 4))).check([Item(text="a", reference="b")])
    (found,) = validator("embedding", embed=lambda texts: np.full((2, 4), np.inf)).check(
        [Item(text="a", reference="b")]
    )
    assert (found.value, found.passed) == (None, False)
    with pytest.raises(UsageError, match="no embedding model is named"):
        validator("embedding").check([Item(text="a", reference="b")])


def test_quality() -> None:
    """The formula is 1 for a good sentence and falls for each thing that spoils one."""
    assert score("quality", "Fly to the red tower and stop there.", reference=REFERENCE).value == 1
    assert score("quality", "Fly to the red tower and stop there", reference=REFERENCE).value == round(0.8**0.2, 4)
    assert not score("quality", "left left left left left left left left", at_least=0.7).passed
    assert not score("quality", "\x00\x01\x02\x03\x04\x05\x06\x07 left.", at_least=0.9).passed
    found = score("quality", "Fly. " * 2, reference=REFERENCE * 20, at_least=0.9)
    assert "Most of all, its length is far from that of the reference." in found.reason
    assert score("quality", "...").value == 0


@pytest.mark.parametrize(
    ("function", "text", "wanted"),
    [
        ("is_short", "short", (1.0, True, "")),
        ("is_short", "far too long", (0.0, False, "The text doesn't pass function.")),
        ("share", "12345", (0.5, False, "Write more.")),
        ("share", "1234567890", (1.0, True, "Write more.")),
    ],
)
def test_a_function(
    function: str, text: str, wanted: tuple[float | None, bool, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function of the user's own decides."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    named = f"validate.functions:{function}"
    found = score("function", text, function=named, **({"at_least": 0.8} if function == "share" else {}))
    assert (found.value, found.passed) == wanted[:2]
    assert found.reason.endswith(wanted[2])


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        ("broken", ZeroDivisionError, "division by zero"),
        ("wrong", TypeError, r"validate.functions:wrong returned \['a'\], which is no score"),
        ("not_a_number", TypeError, "returned nan, which is no score"),
    ],
)
def test_a_function_that_is_at_fault_itself(
    function: str, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it raises goes through: the text isn't to blame, and no next round would mend it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    with pytest.raises(error, match=said):
        score("function", "" if function == "broken" else "a", function=f"validate.functions:{function}")


@pytest.mark.parametrize("function", ["nowhere_at_all:f", "validate.functions:nothing", "validate.functions:CONSTANT"])
def test_functions_that_are_none(function: str) -> None:
    """A function that can't be found or called is a fault before anything is judged."""
    with pytest.raises(InputFaults, match="can't be used"):
        validator("function", {"function": function})


def test_faults_of_options_are_named_together() -> None:
    """Every wrong option is named at once, with what was expected; so are contradictions and unknown kinds."""
    with pytest.raises(InputFaults) as caught:
        validator("length", {"max_wrods": 3, "min_chars": -1, "max_chars": "ten"})
    assert len(caught.value.faults) == 3
    assert "did you mean 'max_words'?" in caught.value.faults[0]
    with pytest.raises(InputFaults, match="can't both be"):
        validator("length", {"min_words": 5, "max_words": 3})
    with pytest.raises(InputFaults, match="swap them"):
        validator("direction", {"at_least": 0.8, "at_most": 0.2})
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(InputFaults, match="at_least"):
            validator("landmark", {"at_least": wrong})
    with pytest.raises(InputFaults, match="did you mean 'length'"):
        validator("lenght")
    with pytest.raises(InputFaults, match="must be above 0"):
        validator("combined", {"weights": {"embedding": 0}})
    with pytest.raises(InputFaults, match="isn't one of the"):
        validator("language", {"language": "xx"})


def test_kinds_load_when_asked_for() -> None:
    """Importing the package loads no library that only some validators need."""
    import subprocess

    code = "import sys, tokenmill.validate; print({'re2', 'numpy', 'jsonschema', 'py3langid'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

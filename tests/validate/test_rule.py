"""Rules and profiles: conditions as data, read into a tree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.errors import InputFaults
from tokenmill.validate import Item, Score, validator
from tokenmill.validate.expression import BadExpression, parse
from tokenmill.validate.rule import profiles

NAMES = ("embedding", "direction", "landmark", "combined")


def judge(role: str, embedding: float | None, direction: float | None, landmark: float | None, combined: float) -> bool:
    scores = dict(zip(NAMES, (embedding, direction, landmark, combined), strict=True))
    (score,) = validator("rule", {"profile": "standard"}).check([Item(text="", role=role, scores=scores)])
    return score.passed


@pytest.mark.parametrize(
    ("embedding", "direction", "landmark", "combined", "positive", "negative"),
    [
        (0.8, 1.0, 1.0, 0.9, True, False),
        (0.5, 1.0, 1.0, 0.9, False, False),
        (0.51, 0.7, 0.5, 0.6, False, True),
        (0.51, 0.71, 0.0, 0.0, True, True),
        (0.51, 0.0, 0.51, 0.0, True, True),
        (0.51, 0.0, 0.0, 0.61, True, True),
        (0.3, 0.0, 0.0, 0.0, False, False),
        (0.31, 0.0, 1.0, 0.0, False, True),
        (0.92, 0.0, 0.0, 0.0, False, False),
        (0.91, 0.69, 1.0, 0.0, True, True),
        (0.9, 0.7, 0.7, 0.0, True, False),
        (0.9, None, 1.0, 0.9, True, False),
        (0.9, None, None, 0.9, True, False),
        (0.9, None, 0.2, 0.5, False, True),
        (None, 1.0, 1.0, 1.0, False, False),
    ],
)
def test_the_standard_profile(
    embedding: float | None,
    direction: float | None,
    landmark: float | None,
    combined: float,
    positive: bool,
    negative: bool,
) -> None:
    """The thresholds are those stated, strict on both sides, and a score without a value meets none."""
    assert judge("positive", embedding, direction, landmark, combined) is positive
    assert judge("negative", embedding, direction, landmark, combined) is negative


@given(scores=st.dictionaries(st.sampled_from(NAMES), st.none() | st.floats(0, 1), max_size=4))
def test_what_a_strict_profile_passes_a_lenient_one_does(scores: dict[str, float | None]) -> None:
    """The profiles are ordered: strict within standard within lenient, for both roles."""
    for role in ("positive", "negative"):
        passed = [
            validator("rule", {"profile": name}).check([Item(text="", role=role, scores=scores)])[0].passed
            for name in ("strict", "standard", "lenient")
        ]
        assert passed == sorted(passed)


def test_a_recipe_changes_one_rule_of_a_profile() -> None:
    """Rules of a recipe come before those of its profile, role by role."""
    made = validator("rule", {"profile": "lenient", "rules": {"positive": "quality > 0.9"}})
    items = [Item(text="", role="positive", scores={"quality": 0.95}), Item(text="", role="negative", scores={})]
    assert [score.passed for score in made.check(items)] == [True, False]
    assert set(made.needs) == {"quality", "embedding", "direction", "landmark"}


def test_the_reason_says_what_is_unmet_and_why() -> None:
    """The reason of a rule names each comparison that failed, and repeats what the validators of those scores said."""
    item = Item(
        text="",
        role="positive",
        scores={"embedding": 0.8, "direction": 0.0, "landmark": None, "combined": 0.4},
        reasons={"direction": "The reference says left and the text says right.", "embedding": "Unneeded."},
    )
    (score,) = validator("rule", {"profile": "standard"}).check([item])
    assert score == Score(
        validator="rule",
        value=0.0,
        passed=False,
        reason="The text is no positive by the rule: direction is 0 and must be above 0.7; landmark has no value and "
        "must be above 0.5; combined is 0.4 and must be above 0.6. The reference says left and the text says right.",
    )


def test_a_role_without_a_rule_fails() -> None:
    """An item of a role that no rule is for doesn't pass by default."""
    (score,) = validator("rule", {"profile": "standard"}).check([Item(text="", role="neutral")])
    assert not score.passed
    assert score.reason == "No rule is for the role 'neutral'; there are rules for positive, negative."


@pytest.mark.parametrize(
    ("text", "scores", "holds"),
    [
        ("a > 1", {"a": 2}, True),
        ("a >= 2 and a <= 2", {"a": 2}, True),
        ("1 < a < 3", {"a": 3}, False),
        ("0.1 < a <= b < 1", {"a": 0.5, "b": 0.5}, True),
        ("a > 1 or b > 1 and c > 1", {"a": 2, "b": 0, "c": 0}, True),
        ("(a > 1 or b > 1) and c > 1", {"a": 2, "b": 0, "c": 0}, False),
        ("not a > 1", {"a": 2}, False),
        ("not not a > 1", {"a": 2}, True),
        ("not (a > 1 and b > 1)", {"a": 2, "b": 1}, True),
        ("a > -0.5", {"a": -0.4}, True),
        ("a > 1", {}, None),
        ("a > 1 or b > 1", {"b": 2}, True),
        ("a > 1 and b > 1", {"b": 0}, False),
        ("a > 1 and b > 1", {"b": 2}, None),
        ("not a > 1", {"a": None}, None),
    ],
)
def test_conditions(text: str, scores: dict[str, float | None], holds: bool | None) -> None:
    """Conditions bind as one expects, and a score without a value is neither above nor below anything."""
    assert parse(text).holds(scores) is holds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected the name of a score or a number at character 1, found the end"),
        ("a", "expected <, <=, > or >= at character 2, found the end"),
        ("a > ", "expected the name of a score or a number at character 5, found the end"),
        ("a > 1 b", "expected 'and', 'or' or the end at character 7, found 'b'"),
        ("(a > 1", "expected ')' at character 7, found the end"),
        ("a == 1", "'== 1' at character 3 is no name, number, sign or bracket"),
        ("a > 1 and", "expected the name of a score or a number at character 10, found the end"),
        ("1 < 2", "1 < 2 compares two numbers; name a score"),
        ("__import__('os').system('true') > 0", "\"'os').system('true')\" at character 12 is no name"),
        ("a > 1e999", "is no name, number, sign or bracket"),
        ("(" * 100 + "a > 1" + ")" * 100, "nested more than 50 deep"),
        ("not " * 5000 + "a > 1", "at most 10000 are read"),
        ("not " * 1000 + "a > 1", "nested more than 50 deep"),
    ],
)
def test_bad_conditions_say_where(text: str, said: str) -> None:
    """A condition that can't be read says what was expected and where; nothing is evaluated."""
    with pytest.raises(BadExpression) as caught:
        parse(text)
    assert said in str(caught.value)


@given(text=st.text(alphabet="ab01.<>=()- andornt", max_size=40))
def test_any_text_is_a_condition_or_a_fault(text: str) -> None:
    """Reading never fails in another way, and what was read gives an answer."""
    try:
        condition = parse(text)
    except BadExpression:
        return
    assert condition.holds({"a": 0.5, "b": None}) in (True, False, None)
    list(condition.unmet({"a": 0.5}))


def test_faults_of_rules_are_named_together() -> None:
    """An unknown profile, a condition that can't be read and thresholds that decide nothing are faults."""
    with pytest.raises(InputFaults, match="did you mean 'standard'"):
        validator("rule", {"profile": "standart"})
    with pytest.raises(InputFaults, match="it has no rule"):
        validator("rule", {})
    with pytest.raises(InputFaults) as caught:
        validator("rule", {"rules": {"a": "direction > 7", "b": "embedding <", "c": "0.3 < embedding < 1.5"}})
    assert len(caught.value.faults) == 3
    assert caught.value.faults[0] == (
        "the rule for 'a': threshold 7 for 'direction' is out of range; its scores go from 0 to 1"
    )


def test_profiles_are_readable() -> None:
    """Each profile that comes with the package has a rule for positives and for negatives."""
    assert list(profiles()) == ["standard", "strict", "lenient"]
    assert all(set(rules) == {"positive", "negative"} for rules in profiles().values())

"""Texts that a model shouldn't write and may: huge, broken, and made to make a validator slow."""

from __future__ import annotations

import json

import pytest

from tokenmill.validate import Item, Score, kinds, validator
from validate.vectors import embed

#: Options with which each kind can be made.
OPTIONS: dict[str, dict[str, object]] = {
    "function": {"function": "builtins:bool"},
    "json_schema": {"schema": {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}},
    "language": {"language": "en"},
    "regex": {"pattern": "^(a+)+$"},
    "rule": {"profile": "standard"},
}
MEGABYTE = 1 << 20
LONG = MEGABYTE // 4
TEXTS = {
    "nothing": "",
    "white space": " \t\r\n" * 1000,
    "a lone surrogate": "Turn left at \ud800 the church \udfff.",
    "surrogates only": "\ud800" * 10_000,
    "control characters": "".join(map(chr, range(32))) * 1000,
    "direction marks": "\u202e\u2066\u200b\ufeff" * 5000,
    "combining marks": "a" + "\u0301\u0323" * 50_000,
    "one letter": "a" * LONG + "b",
    "no space": "left" * (LONG // 4),
    "brackets": "[" * LONG,
    "nested objects": '{"a":' * 50_000,
    "many digits": "9" * LONG,
    "quotes": "'" * LONG,
    "commas": "," * LONG,
    "hyphens": "3-" * (LONG // 2),
    "at your": "at your " * (LONG // 8),
    "equal signs": "=" * LONG,
    "scores": "SCORE: 5\nSCORE: 6\n" * 5000,
    "ligatures": "\ufdfa" * 100_000,
    "many scripts": "turn \u5de6 \u0644\u064a\u0633\u0627\u0631 \u043d\u0430\u043b\u0435\u0432\u043e \U0001f4a5 "
    * 1000,
}
TEN_MEGABYTES = "Turn left at the red church, then don't turn right at 3 o'clock past two tall trees. "


def check(kind: str, text: str, reference: str) -> Score:
    """The score of a text, and of the same as its reference."""
    made = validator(kind, OPTIONS.get(kind, {}), embed=embed)
    item = Item(text=text, reference=reference, role="positive", others=(text[:1000],))
    (score,) = made.check([item])
    return score


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("kind", kinds())
def test_hostile_text_is_judged(kind: str, name: str) -> None:
    """Every validator gives a score for any text, whose reason is short and can be stored."""
    for text, reference in ((TEXTS[name], "Turn left at the church."), ("Turn left at the church.", TEXTS[name])):
        score = check(kind, text, reference)
        assert len(score.reason) < 1000
        assert score.reason.isprintable()
        json.dumps(score.reason).encode()
        score.reason.encode("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds())
def test_ten_megabytes_are_judged(kind: str) -> None:
    """Ten megabytes of instructions are one more text."""
    text = TEN_MEGABYTES * (10 * MEGABYTE // len(TEN_MEGABYTES))
    assert len(check(kind, text, TEN_MEGABYTES).reason) < 1000


def test_a_pattern_that_goes_back_for_ever_ends() -> None:
    """Patterns that take Python's engine longer than a run take RE2 no time, in a schema too."""
    letters = "a" * 100_000 + "!"
    for pattern in ("^(a+)+$", "^(a|aa)+$", "^(a*)*$", "(.*)*x"):
        assert not validator("regex", {"pattern": pattern}).check([Item(text=letters)])[0].passed
        schema = {"type": "array", "items": {"type": "string", "pattern": pattern}}
        made = validator("json_schema", {"schema": schema})
        assert not made.check([Item(text=json.dumps([letters]))])[0].passed


def test_a_long_list_of_objects_is_compared_once() -> None:
    """Whether a list repeats an entry takes time in proportion to it, for objects and lists too."""
    made = validator("json_schema", {"schema": {"uniqueItems": True}, "max_chars": 10_000_000})
    entries = [json.dumps([{"a": number}, number, [number], str(number)])[1:-1] for number in range(20_000)]
    whole, repeated = f"[{', '.join(entries)}]", f"[{', '.join([*entries, entries[-1]])}]"

    assert made.check([Item(text=whole)])[0].passed
    assert not made.check([Item(text=repeated)])[0].passed


def test_a_long_text_is_read_once_for_all_that_are_compared_with_it() -> None:
    """One reference of many items, or one text before many, is cut into its runs once."""
    long = " ".join(map(str, range(60_000)))
    items = [Item(text=f"Turn {number}.", reference=long, others=(long,)) for number in range(20_000)]

    for kind in ("near_duplicate", "duplicate"):
        assert all(score.passed for score in validator(kind).check(items))

"""What holds of every validator, whatever the texts."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.validate import Item, kinds, validator
from tokenmill.validate.registry import kind_of
from validate.test_hostile import OPTIONS
from validate.vectors import embed

VOCABULARY = """
turn left right not don't instead of forward north south around church house red blue tall two o'clock 3 nine at your
the and then , . but go back up ziggurat past towards behind is was
"""
WORDS = VOCABULARY.split()
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)
TEXTS = st.one_of(SENTENCES, st.text(max_size=60))
SCORES = st.dictionaries(
    st.sampled_from(["embedding", "direction", "landmark", "combined"]), st.none() | st.floats(-1, 1), max_size=4
)
ITEMS = st.builds(
    lambda text, reference, role, others, scores: Item(
        text=text, reference=reference, role=role, others=tuple(others), scores=scores
    ),
    TEXTS,
    TEXTS,
    st.sampled_from(["positive", "negative", ""]),
    st.lists(TEXTS, max_size=3),
    SCORES,
)
#: Kinds that compare a text with its reference, and don't care which is which.
SYMMETRIC = ("clock", "direction", "embedding", "landmark", "duplicate", "near_duplicate")
MADE = {kind: validator(kind, OPTIONS.get(kind, {}), embed=embed) for kind in kinds()}


@pytest.mark.parametrize("kind", kinds())
@settings(deadline=None, max_examples=60)
@given(items=st.lists(ITEMS, max_size=5))
def test_scores_are_in_range_and_named(kind: str, items: list[Item]) -> None:
    """A value lies on the scale of its kind, and whatever doesn't pass says why."""
    scores = MADE[kind].check(items)
    scale = kind_of(kind).scale
    assert len(scores) == len(items)
    for score in scores:
        assert score.validator == kind
        assert score.passed or score.reason
        if score.value is not None and scale is not None:
            assert scale[0] <= score.value <= scale[1]


@pytest.mark.parametrize("kind", kinds())
@settings(deadline=None, max_examples=60)
@given(items=st.lists(ITEMS, min_size=1, max_size=5), data=st.data())
def test_a_score_depends_on_its_item_alone(kind: str, items: list[Item], data: st.DataObject) -> None:
    """In any order and any batch, an item has the same score."""
    order = data.draw(st.permutations(range(len(items))))
    whole = MADE[kind].check(items)
    assert MADE[kind].check([items[place] for place in order]) == [whole[place] for place in order]
    assert [MADE[kind].check([item])[0] for item in items] == whole


@pytest.mark.parametrize("kind", SYMMETRIC)
@settings(deadline=None, max_examples=100)
@given(this=TEXTS, that=TEXTS)
def test_likeness_has_no_direction(kind: str, this: str, that: str) -> None:
    """A text is as like its reference as the reference is like the text."""
    made = validator(kind, {}, embed=embed)
    there, back = made.check([Item(text=this, reference=that), Item(text=that, reference=this)])
    if kind not in ("duplicate", "near_duplicate") or (this and that):
        assert there.value == back.value


@pytest.mark.parametrize("kind", ["clock", "direction", "landmark", "near_duplicate", "embedding"])
@settings(deadline=None, max_examples=100)
@given(text=TEXTS)
def test_a_text_agrees_with_itself(kind: str, text: str) -> None:
    """What a text says agrees with what it says, if it says anything."""
    (score,) = validator(kind, {}, embed=embed).check([Item(text=text, reference=text)])
    assert score.value is None or score.value == pytest.approx(1 if kind != "landmark" else score.value)
    if kind == "landmark" and score.value is not None:
        assert score.value == 1


@given(values=st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["embedding", "direction", "landmark"])), min_size=1))
def test_a_mean_lies_between_its_parts(values: list[tuple[float, str]]) -> None:
    """The combined score is never beyond the scores it combines."""
    scores: dict[str, float | None] = {name: value for value, name in values}
    (score,) = MADE["combined"].check([Item(text="", scores=scores)])
    known = [value for value in scores.values() if value is not None]
    assert score.value is not None
    assert min(known) - 1e-4 <= score.value <= max(known) + 1e-4


def test_a_missing_score_is_never_zero() -> None:
    """A score without a value leaves the mean of the others alone, whichever it is."""
    names = ("embedding", "direction", "landmark")
    for missing in product((False, True), repeat=3):
        scores = {name: None if gone else 0.8 for name, gone in zip(names, missing, strict=True)}
        (score,) = MADE["combined"].check([Item(text="", scores=scores)])
        assert score.value == (None if all(missing) else 0.8)

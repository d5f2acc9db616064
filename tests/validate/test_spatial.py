"""Agreement of directions, landmarks and clock positions, on pairs of which it is known."""

from __future__ import annotations

import pytest

from tokenmill.validate import Item, Validator, validator
from tokenmill.validate.clock_position import clock_positions
from tokenmill.validate.directions import directions
from tokenmill.validate.landmarks import gazetteer
from validate.pairs import PAIRS

#: From here on a pair is said to agree: the threshold of the negative rule.
AGREES = 0.7


def value(made: Validator, reference: str, text: str) -> float | None:
    (score,) = made.check([Item(text=text, reference=reference)])
    return score.value


@pytest.mark.parametrize(("reference", "text", "wanted"), PAIRS, ids=[f"{one} / {two}" for one, two, _ in PAIRS])
def test_known_pairs(reference: str, text: str, wanted: str) -> None:
    """What a person says of a pair is what the three validators say, in both directions."""
    for kind, sign in zip(("direction", "landmark", "clock"), wanted, strict=True):
        made = validator(kind)
        found = value(made, reference, text)
        assert found == value(made, text, reference)
        assert ("0" if found is None else "+" if found >= AGREES else "-") == sign, (kind, found)


def test_the_table_is_large_enough() -> None:
    """There are at least 60 pairs, and none is there twice."""
    assert len({(one, two) for one, two, _ in PAIRS}) == len(PAIRS) >= 60


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Turn left, don't turn right.", ["left"]),
        ("Do not turn left or right.", ["not left", "not right"]),
        ("Don't stop, turn left.", ["left"]),
        ("Never go left and go straight.", ["not left", "forward"]),
        ("Go up to the tower.", []),
        ("Go right past the shop on North Street.", ["right"]),
        ("Go back the way you came.", ["around"]),
        ("Turn around the corner.", []),
        ("Fly straight up.", ["up"]),
        ("It is behind you; the shed is behind the barn.", ["back", "behind"]),
        ("It's right there, isn't it?", []),
        ("Turn to starboard.", ["right"]),
        ("Reverse direction.", ["around"]),
        ("Fly to the 4 o'clock position.", ["4 o'clock"]),
        ("Once you've left the church, go right.", ["right"]),
        ("Once you\u2019ve left the church, go right.", ["right"]),
        ("Once you've already left the church, go right.", ["right"]),
        ("When they'd left and we've left, having left it, go left.", ["left"]),
        ("Turn neither left nor right; go straight.", ["not left", "not right", "forward"]),
        ("Do not turn left nor right.", ["not left", "not right"]),
        ("Don't turn left, nor right.", ["not left", "not right"]),
        ("Don't miss the left nor the right turn.", ["left", "right"]),
        ("Turn 180.", ["around"]),
        ("Turn 180", ["around"]),
        ("Turn 180\u00b0, then climb.", ["around", "up"]),
        ("Rotate 180, then go.", ["around"]),
        ("Do a 180 and go.", ["around"]),
        ("Make a full 180 at the barn.", ["around"]),
        ("Turn left 180 and go.", ["left", "around"]),
        ("Turn by 180 to the barn.", ["around"]),
        ("Turn 180 meters after the church.", []),
        ("Turn after a 180 meter drive.", []),
        ("Turn onto 180.", []),
        ("Follow Route 180, then land.", []),
        ("Turn 90 degrees clockwise.", ["right"]),
        ("Rotate counterclockwise.", ["left"]),
        ("Make an anti-clockwise turn.", ["left"]),
        ("Turn left and fly clockwise around the dome.", ["left", "clockwise"]),
        ("Turn clockwise around the dome.", ["clockwise"]),
        ("Turn at the dome, then circle it clockwise.", ["clockwise"]),
        ("Don't rotate clockwise.", ["not right"]),
    ],
)
def test_directions_of_a_text(text: str, wanted: list[str]) -> None:
    """Directions are read with their denials, and words that only look like one are not."""
    assert [str(one) for one in directions(text)] == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("at 3 o'clock", [3]),
        ("at three o'clock", [3]),
        ("at 3 o\u2019clock", [3]),
        ("at 3 oclock", [3]),
        ("at 3-o'clock", [3]),
        ("at 3'o clock", [3]),
        ("at 3'o'clock", [3]),
        ("at 11\u2019o clock", [11]),
        ("at three 'o clock", [3]),
        ("look to your 3:00.", [3]),
        ("at your 2:00 and climb", [2]),
        ("at your 3:00 meeting", []),
        ("at your 3:00 pm flight", []),
        ("at your 3:005", []),
        ("at your 3:30", []),
        ("at your 3", [3]),
        ("on your twelve, then left", [12]),
        ("AT YOUR SIX O'CLOCK", [6]),
        ("from 10 to 11 o'clock", [10, 11]),
        ("a clock position of 7", [7]),
        ("at your 3 meters", []),
        ("to your two friends", []),
        ("13 o'clock", []),
        ("0 o'clock", []),
        ("at 5 o'clock pm", []),
        ("3 meters", []),
        ("at your 3.5", []),
    ],
)
def test_clock_positions_of_a_text(text: str, wanted: list[int]) -> None:
    """Positions on a clock are read in digits and words, and times of day and counts are not."""
    assert clock_positions(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Fly to the crimson structure, a tall one.", ["red building"]),
        ("two tall trees near the gas stations", ["tall two tree", "gas station"]),
        ("Bank left and head home past the bank.", ["bank"]),
        ("the red house; that house is old", ["red house"]),
        ("past the old gothic lighthouse on the left", ["lighthouse"]),
        ("Turn around at the end of the way.", []),
    ],
)
def test_landmarks_of_a_text(text: str, wanted: list[str]) -> None:
    """Landmarks are read with their marks; things no table has by their place in the sentence."""
    assert [str(one) for one in gazetteer({}).landmarks(text)] == wanted


def test_a_recipe_adds_landmarks() -> None:
    """Landmarks that a recipe names are one thing in all their words."""
    made = validator("landmark", {"more": {"mascot": ["big bear", "bear statue"]}})
    assert value(made, "Turn at the mascot.", "Turn at the bear statue.") == 1
    assert value(validator("landmark"), "Turn at the mascot.", "Turn at the bear statue.") == 0


def test_one_hour_is_near_and_a_quarter_is_far() -> None:
    """Clock positions lose a third for each hour, around the clock."""
    made = validator("clock")
    values = [value(made, "at 12 o'clock", f"at {hour} o'clock") for hour in (12, 11, 10, 9, 6, 3, 2, 1)]
    assert values == [1, 0.6667, 0.3333, 0, 0, 0, 0.3333, 0.6667]


def test_a_reason_can_go_into_the_next_prompt() -> None:
    """The reason of a disagreement names both sides."""
    item = Item(text="Turn right at the blue house.", reference="Don't turn left at the red house.")
    (score,) = validator("direction", {"at_least": 0.7}).check([item])
    assert not score.passed
    assert score.reason == (
        "The agreement of directions is 0 and must be at least 0.7. "
        "The reference says not left and the text says right."
    )
    (score,) = validator("landmark", {"at_least": 0.7}).check([item])
    assert score.reason.endswith("The reference has red house and the text has blue house.")
    (score,) = validator("clock").check([Item(text="at 3 o'clock", reference="ahead")])
    assert score.reason == "The reference has no clock position and the text has 3 o'clock."


def test_nothing_to_compare_passes_without_a_value() -> None:
    """Where neither text names a direction there is no value, and no limit refuses it."""
    (score,) = validator("direction", {"at_least": 1.0}).check([Item(text="Hello.", reference="Hi.")])
    assert (score.value, score.passed, score.reason) == (None, True, "Neither text names a direction.")


def test_clock_positions_can_stay_out_of_directions() -> None:
    """With `clock` off, 3 o'clock isn't on the right."""
    item = Item(text="at 3 o'clock", reference="on the right")
    assert validator("direction").check([item])[0].value == 1
    assert validator("direction", {"clock": False}).check([item])[0].value == 0

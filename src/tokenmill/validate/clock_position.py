"""Whether two texts name the same positions on a clock, as pilots do: straight ahead is 12, to the right is 3."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenmill.validate.bounds import Bounds
from tokenmill.validate.kind import Kind
from tokenmill.validate.score import Item, Score
from tokenmill.validate.words import fold

_SPOKEN = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_HOURS = {word: hour for hour, word in enumerate(_SPOKEN, start=1)} | {str(hour): hour for hour in range(1, 13)}
_HOUR = rf"(?:{'|'.join(sorted(_HOURS, key=len, reverse=True))})"
_RANGE = rf"(?<![\w.:])({_HOUR})(?:[ ]?(?:-|/|or|and|to)[ ]?({_HOUR}))?"
#: The hours of a day are no positions: "at 3 o'clock in the afternoon".
_NOT_TIME = r"(?! (?:am|pm|a\.m|p\.m|sharp|in the (?:morning|afternoon|evening)|at night|every day|today|tomorrow)\b)"
_COUNTED = re.compile(rf"\b(?:at|on|to|towards?|by) (?:your|his|her|its|my|our|their) {_RANGE}(?::00)?(?![\w:]|\.\d)")
#: How a position is named, and what any text must hold that names one so: that is looked for in a fraction of the time.
_MENTIONS = (
    ("clock", re.compile(rf"{_RANGE}[ '-]{{0,2}}o ?'? ?-?clock\b{_NOT_TIME}")),
    (":00 ", re.compile(rf"{_RANGE}:00 (?:position|direction)\b")),
    (" ", _COUNTED),
    ("clock ", re.compile(rf"\bclock (?:position|direction) (?:of )?{_RANGE}(?![\w:]|\.\d)")),
)
#: After "at your 3" these make it a count and no position: "at your 3 meters", "at your two friends".
_UNITS = re.compile(
    r" (?!(?:and|or|then|but|until|while|when|before|after|past|near|at|by|as|in|on|to|for|with|is|you|the|there"
    r"|position|direction|high|low|level)\b)\w"
)
#: From this many hours apart on, two positions have nothing in common: a quarter of the circle.
_APART = 3


def clock_positions(text: str) -> list[int]:
    """The hours that a text names as positions, 1 to 12, in their order."""
    line = " ".join(fold(text).split())
    found: list[tuple[int, int]] = []
    for sign, mention in _MENTIONS:
        for match in mention.finditer(line) if sign in line else ():
            if mention is _COUNTED and _UNITS.match(line, match.end()):
                continue
            found += [(match.start(group), _HOURS[match[group]]) for group in (1, 2) if match[group]]
    return [hour for _, hour in sorted(set(found))]


def alike(these: Sequence[int], those: Sequence[int]) -> float | None:
    """How well two sets of positions agree: each counts by its nearest in the other set, 1 less a third for an hour.

    Three hours apart, a quarter turn, is 0. None where neither has any.
    """
    left, right = set(these), set(those)
    if not left and not right:
        return None
    total = sum(_best(hour, right) for hour in left) + sum(_best(hour, left) for hour in right)
    return total / (len(left) + len(right))


def _best(hour: int, hours: set[int]) -> float:
    return max((max(0.0, 1 - _hours_apart(hour, other) / _APART) for other in hours), default=0.0)


def _hours_apart(this: int, that: int) -> int:
    turn = abs(this - that) % 12
    return min(turn, 12 - turn)


class ClockPosition:
    """Measures how well the clock positions of a text agree with those of its reference, 0 to 1."""

    needs = ()

    def __init__(self, name: str, options: Bounds) -> None:
        self.name = name
        self._options = options

    def check(self, items: Sequence[Item]) -> list[Score]:
        # Items of one row come together, and each text is read once.
        texts = {text for item in items for text in (item.text, item.reference)}
        found = {text: clock_positions(text) for text in texts}
        return [self._one(found[item.reference], found[item.text]) for item in items]

    def _one(self, reference: Sequence[int], text: Sequence[int]) -> Score:
        value = alike(reference, text)
        if value is None:
            detail = "Neither text names a clock position."
        elif value == 1:
            detail = ""
        else:
            detail = f"The reference has {_said(reference)} and the text has {_said(text)}."
        return self._options.score(self.name, "The agreement of clock positions", value, detail)


def _said(hours: Sequence[int]) -> str:
    return ", ".join(f"{hour} o'clock" for hour in dict.fromkeys(hours)) or "no clock position"


KIND = Kind(Bounds, ClockPosition, scale=(0.0, 1.0), compares=True)

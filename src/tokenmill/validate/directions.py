"""The directions that a text names, in their order, each with whether it is denied and whether it is a movement.

It reads English by words and their neighbours, without a model: each rule can be looked up, and the same text always
says the same. What it can't see: who moves, and what "before" and "after" do to the order of two sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from tokenmill.validate import spoken_directions as spoken
from tokenmill.validate.clock_position import clock_positions
from tokenmill.validate.words import fold

_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[.,;:!?()\n]")
#: Positions on a clock that have a name of their own.
_CLOCK = {12: "forward", 3: "right", 6: "back", 9: "left"}


class Direction(Struct, frozen=True):
    """A direction by its name; `denied` as in "don't turn left"; `moving` as in "turn left", not "on your left".

    `also` is what it may be called as well: who flies to 6 o'clock goes back, or turns around.
    """

    name: str
    denied: bool = False
    moving: bool = False
    also: str = ""

    def __str__(self) -> str:
        return f"not {self.name}" if self.denied else self.name

    @property
    def contraries(self) -> Iterator[tuple[str, bool]]:
        """What contradicts this: its denial, and its opposites unless it is a denial itself."""
        yield self.name, not self.denied
        if not self.denied:
            yield from ((other, False) for other in spoken.OPPOSITES.get(self.name, ()))


def directions(text: str, *, clock: bool = True) -> list[Direction]:
    """Every direction that the text names, in its order; with `clock` the positions on a clock follow, as directions.

    A denied direction is left out where its opposite is named: "not left but right" says no more than "right".
    """
    tokens: list[str] = _TOKEN.findall(fold(text))
    found = [
        Direction(name, _denied(tokens, place), _moving(tokens, place, width)) for place, width, name in _named(tokens)
    ]
    if clock:
        found += [
            Direction(_CLOCK.get(hour, f"{hour} o'clock"), also="around" if hour == 6 else "")
            for hour in clock_positions(text)
        ]
    named = {one.name for one in found if not one.denied}
    return [one for one in found if not (one.denied and spoken.OPPOSITES.get(one.name, frozenset()) & named)]


def _named(tokens: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Where a direction is named, in how many words, and which."""
    end = 0
    for place, token in enumerate(tokens):
        if token not in spoken.STARTS or place < end:
            continue
        found = _phrase(tokens, place) or _compass(tokens, place) or _word(tokens, place)
        if found is not None:
            width, name = found
            end = place + width
            yield place, width, spoken.ROTATED[name] if _rotates(tokens, place, width, name) else name


def _at(tokens: Sequence[str], place: int) -> str:
    return tokens[place] if 0 <= place < len(tokens) else ""


def _phrase(tokens: Sequence[str], place: int) -> tuple[int, str] | None:
    """A direction that takes several words."""
    word, after, third = tokens[place], _at(tokens, place + 1), _at(tokens, place + 2)
    if word in spoken.TURN and after in ("around", "round", "about", "back") and third not in ("the", "a", "an", "to"):
        return 2, "around"
    if word == "u" and after in ("turn", "turns"):
        return 2, "around"
    if (word in ("reverse", "reversing") and "direction" in (after, third)) or (word, after) == ("about", "face"):
        return 2, "around"
    if word == "180" and _is_half_a_turn(tokens, place):
        return 1, "around"
    if word in ("counter", "anti") and after == "clockwise":
        return 2, "counterclockwise"
    if (word, after) == ("port", "side") or (word == "port" and _at(tokens, place - 1) == "to"):
        return 1, "left"
    if (word in spoken.RAISE or word in spoken.LOWER) and spoken.ALTITUDE & {after, third}:
        return 2, "up" if word in spoken.RAISE else "down"
    if word == "behind":
        return 1, "back" if after in ("you", "us", "me", "yourself") else "behind"
    if (word, after) == ("in", "front"):
        ours = third == "of" and _at(tokens, place + 3) in ("you", "us", "me", "yourself")
        return (4, "forward") if ours else (2, "in front")
    return None


def _is_half_a_turn(tokens: Sequence[str], place: int) -> bool:
    before, after = _at(tokens, place - 1), _at(tokens, place + 1)
    if after in ("degree", "degrees"):
        return True
    turns = before in spoken.HALF_AFTER or (before in spoken.HALF_BY and _at(tokens, place - 2) in spoken.TURN)
    return turns and (after == "" or after in spoken.BOUNDS or after in spoken.HALF_BEFORE)


def _compass(tokens: Sequence[str], place: int) -> tuple[int, str] | None:
    point, after = spoken.COMPASS.get(tokens[place]), _at(tokens, place + 1)
    if point is None:
        return None
    if point in ("north", "south") and spoken.COMPASS.get(after) in ("east", "west"):
        return 2, point + spoken.COMPASS[after]
    return None if after in spoken.NAMED else (1, point)


def _word(tokens: Sequence[str], place: int) -> tuple[int, str] | None:
    word, before, after = tokens[place], _at(tokens, place - 1), _at(tokens, place + 1)
    if word in spoken.AFTER_MOVE:
        backing = word == "back" and before in spoken.BACKING
        return (1, "back" if backing else spoken.AFTER_MOVE[word]) if _moves_so(tokens, place) else None
    name = spoken.WORDS.get(word)
    if name is None or before in spoken.NEVER_AFTER.get(word, ()):
        return None
    if after in spoken.NEVER_BEFORE.get(word, ()) and (word == "straight" or before not in spoken.LEADS):
        return None
    if word == "ahead" and before == "go" and after == "and":
        return None
    if word == "left" and before in ("is", "was", "are", "were") and after not in ("of", "side"):
        return None
    return 1, name


def _rotates(tokens: Sequence[str], place: int, width: int, name: str) -> bool:
    """Whether `clockwise` is how something turns on the spot, and not how it flies around something."""
    after = _at(tokens, place + width)
    if name not in spoken.ROTATED or after in ("around", "round"):
        return False
    if after in spoken.ROTATIONS:
        return True
    for back in range(place - 1, max(-1, place - 1 - spoken.REACH), -1):
        word = tokens[back]
        if word in spoken.TURN:
            return True
        if word in spoken.MOVE or word in spoken.ORBITING or word in spoken.BOUNDS or word in ("and", "or"):
            return False
    return False


def _moves_so(tokens: Sequence[str], place: int) -> bool:
    """Whether `up`, `down` or `back` is where something moves, and not as far as something or along it."""
    before, after = _at(tokens, place - 1), _at(tokens, place + 1)
    if before in ("straight", "further", "higher", "lower"):
        before = _at(tokens, place - 2)
    if before not in spoken.MOVE or (tokens[place] == "up" and after == "to"):
        return False
    return not spoken.ALONG & {after, _at(tokens, place + 2)}


def _denied(tokens: Sequence[str], place: int) -> bool:
    """Whether an odd number of negators stands before, within reach and the same clause; `nor` goes on with one."""
    count, goes_on = 0, False
    for back in range(place - 1, max(-1, place - 1 - spoken.REACH), -1):
        word, after = tokens[back], tokens[back + 1]
        if word in spoken.BOUNDS or (word == "and" and back + 1 != place):
            break
        negates = word in spoken.NEGATORS or word.endswith("n't")
        if word == spoken.GOES_ON:
            goes_on = True
        elif (negates and after != "only") or (word, after) in (("instead", "of"), ("rather", "than")):
            count += 1
    return count % 2 == 1 or (goes_on and count == 0)


def _moving(tokens: Sequence[str], place: int, width: int) -> bool:
    """Whether the direction is where something goes, and not where something is."""
    if tokens[place] in spoken.TURN or _at(tokens, place + width) in ("turn", "turns"):
        return True
    for back in range(place - 1, max(-1, place - 5), -1):
        if tokens[back] in spoken.MOVE:
            return True
        if tokens[back] in spoken.BOUNDS or tokens[back] in ("on", "at", "with", "of"):
            return False
    return False

"""Whether a text names the same directions as its reference."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from tokenmill.validate.bounds import Bounds
from tokenmill.validate.directions import Direction, directions
from tokenmill.validate.kind import Kind
from tokenmill.validate.score import Item, Score

#: What one contradiction leaves of the agreement: a route with one turn the wrong way leads elsewhere.
CONTRADICTED = 0.5
#: Movements whose order is compared; instructions have fewer, and a longer text must not take long.
_ORDERED = 64
_SAID = 8


class DirectionOptions(Bounds, frozen=True, kw_only=True):
    """`clock` counts positions on a clock as directions too: at 3 o'clock is on the right."""

    clock: bool = True


def agreement(these: Sequence[Direction], those: Sequence[Direction]) -> float | None:
    """How well two lists of directions agree, 0 to 1; None where neither names any.

    Dice's measure of the two sets, times the part of the shared movements that come in one order, times a half if
    one list contradicts the other: by a denial, or by an opposite. Movements are held against movements as well, and
    places against places: "turn left, with the tower on the right" is contradicted by both in exchange.
    """
    these, those = _called_as(these, those), _called_as(those, these)
    left, right = _set(these), _set(those)
    if not left and not right:
        return None
    shared = left.keys() & right.keys()
    dice = 2 * len(shared) / (len(left) + len(right))
    sides = [([one for one in side if one.moving], [one for one in side if not one.moving]) for side in (these, those)]
    contradicted = _contradict(these, those) or any(map(_contradict, *sides))
    return dice * _in_order(these, those) * (CONTRADICTED if contradicted else 1.0)


def _called_as(these: Sequence[Direction], those: Sequence[Direction]) -> list[Direction]:
    """Directions with two names by the one that the other side has."""
    names = _set(those)
    return [
        replace(one, name=one.also)
        if one.also and (one.also, one.denied) in names and (one.name, one.denied) not in names
        else one
        for one in these
    ]


def _contradict(these: Sequence[Direction], those: Sequence[Direction]) -> bool:
    """Whether one side has what the other lacks, and the other its contrary, which the one lacks."""
    left, right = _set(these), _set(those)
    added = right.keys() - left.keys()
    return any(contrary in added for key in left.keys() - right.keys() for contrary in left[key].contraries)


def _set(found: Sequence[Direction]) -> dict[tuple[str, bool], Direction]:
    return {(one.name, one.denied): one for one in found}


def _in_order(these: Sequence[Direction], those: Sequence[Direction]) -> float:
    """The longest common order of the movements that both have, over the shorter list of them; 1 without any.

    What is denied has no order: nobody does it.
    """
    moves: list[set[tuple[str, bool]]] = [
        {(one.name, False) for one in side if one.moving and not one.denied} for side in (these, those)
    ]
    shared = moves[0] & moves[1]
    left, right = _steps(these, shared), _steps(those, shared)
    if not left or not right:
        return 1.0
    row = [0] * (len(right) + 1)
    for this in left:
        before = 0
        for column, that in enumerate(right, start=1):
            before, row[column] = row[column], before + 1 if this == that else max(row[column], row[column - 1])
    return row[-1] / min(len(left), len(right))


def _steps(found: Sequence[Direction], shared: set[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """The shared movements in their order, one said twice in a row counted once."""
    steps: list[tuple[str, bool]] = []
    for one in found:
        key = (one.name, one.denied)
        if one.moving and key in shared and steps[-1:] != [key]:
            steps.append(key)
            if len(steps) == _ORDERED:
                break
    return steps


class DirectionAgreement:
    """Measures how well the directions of a text agree with those of its reference, 0 to 1."""

    needs = ()

    def __init__(self, name: str, options: DirectionOptions) -> None:
        self.name = name
        self._options = options

    def check(self, items: Sequence[Item]) -> list[Score]:
        # Items of one row come together, and each text is read once.
        texts = {text for item in items for text in (item.text, item.reference)}
        found = {text: directions(text, clock=self._options.clock) for text in texts}
        return [self._one(found[item.reference], found[item.text]) for item in items]

    def _one(self, reference: Sequence[Direction], text: Sequence[Direction]) -> Score:
        value = agreement(reference, text)
        if value is None:
            detail = "Neither text names a direction."
        elif value == 1:
            detail = ""
        else:
            detail = f"The reference says {_said(reference)} and the text says {_said(text)}."
        return self._options.score(self.name, "The agreement of directions", value, detail)


def _said(found: Sequence[Direction]) -> str:
    names = list(dict.fromkeys(str(one) for one in found))
    return ", ".join(names[:_SAID]) + (" and more" if len(names) > _SAID else "") if names else "no direction"


KIND = Kind(DirectionOptions, DirectionAgreement, scale=(0.0, 1.0), compares=True)

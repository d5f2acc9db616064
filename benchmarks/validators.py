"""What validators cost: processor time an item for each kind.

    python benchmarks/validators.py

Instructions are made of 40 verbs, turns, marks and places, so that many are alike, as those of a data set are. It also
says on how many pairs of tests/validate/held_out.py the rules for directions, landmarks and clock positions say what a
person does.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from random import Random

# In place of this folder, as the names of tests aren't packages beside it.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests")

from tokenmill.validate import Item, kinds, validator  # noqa: E402
from validate.held_out import HELD_OUT  # type: ignore[import-not-found] # noqa: E402
from validate.test_hostile import OPTIONS  # type: ignore[import-not-found] # noqa: E402
from validate.vectors import embed  # type: ignore[import-not-found] # noqa: E402

VERBS = ("Fly", "Go", "Head", "Proceed", "Continue", "Move")
TURNS = ("left", "right", "north", "south", "straight ahead", "to 3 o'clock", "to your nine o'clock", "up", "backwards")
MARKS = ("red", "blue", "tall", "large", "white", "second", "brick", "round", "old", "grey", "small", "wooden")
PLACES = (
    "church",
    "bridge",
    "tower",
    "lake",
    "parking lot",
    "house",
    "stadium",
    "barn",
    "ziggurat",
    "gas station",
    "school",
)
AGREES = 0.7


def instruction(draw: Random) -> str:
    """One instruction of two or three steps."""
    steps = [
        f"{draw.choice(VERBS).lower()} {draw.choice(TURNS)} past the {draw.choice(MARKS)} {draw.choice(PLACES)}"
        for _ in range(draw.randint(2, 3))
    ]
    return f"{', then '.join(steps).capitalize()}."


def cost(kind: str, items: list[Item]) -> float:
    """Processor seconds an item, the least of three; what is loaded once isn't counted."""
    made = validator(kind, OPTIONS.get(kind, {}), embed=embed)
    made.check(items[:10])
    seconds = []
    for _ in range(3):
        start = time.process_time()
        made.check(items)
        seconds.append((time.process_time() - start) / len(items))
    return min(seconds)


def held_out() -> None:
    """Counts the held-out pairs on which a validator says what a person does."""
    for column, kind in enumerate(("direction", "landmark", "clock")):
        made = validator(kind)
        scores = made.check([Item(text=text, reference=reference) for reference, text, _ in HELD_OUT])
        wrong = []
        for (reference, text, wanted), score in zip(HELD_OUT, scores, strict=True):
            sign = "0" if score.value is None else "+" if score.value >= AGREES else "-"
            if sign != wanted[column]:
                wrong.append(f"    {sign} for {wanted[column]}: {reference} / {text}")
        print(f"{kind:16}{len(HELD_OUT) - len(wrong)} of {len(HELD_OUT)} as a person says", *wrong, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    draw = Random(7)
    items = [
        Item(
            text=instruction(draw),
            reference=instruction(draw),
            role="positive",
            others=(instruction(draw),),
            scores={"embedding": 0.8, "direction": 0.5, "landmark": None, "combined": 0.6},
        )
        for _ in range(1000)
    ]
    for kind in kinds():
        print(f"{kind:16}{cost(kind, items) * 1e6:8.1f} us an item")
    held_out()


if __name__ == "__main__":
    main()

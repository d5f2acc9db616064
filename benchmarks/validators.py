"""What validators cost: processor time an item for each kind, and for all of a recipe together.

    python benchmarks/validators.py
    python benchmarks/validators.py --items 3000 --model DIR

Instructions are made of 40 verbs, turns, marks and places, so that many are alike, as those of a data set are. The
recipe judges answers as in a run, in batches, with vectors of `words` and of a local embedding model; what the worker
of that takes is told apart, as only the rest shares Python's lock with the run. It also says how long ten megabytes
take, and on how many pairs of tests/validate/held_out.py the rules for directions, landmarks and clock positions say
what a person does. Processor times depend little on who else is busy.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from pathlib import Path
from random import Random

import psutil

from embeddings import write_minilm  # the benchmark beside this one

# In place of this folder, as the names of tests aren't packages beside it.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests")

from tokenmill.driver.options import Settings  # noqa: E402
from tokenmill.driver.vectors import Vectors  # noqa: E402
from tokenmill.pipeline.judging import Judge, Round  # noqa: E402
from tokenmill.pipeline.lexical import LEXICAL  # noqa: E402
from tokenmill.pipeline.read import recipe  # noqa: E402
from tokenmill.validate import Item, kinds, validator  # noqa: E402
from validate.held_out import HELD_OUT  # type: ignore[import-not-found] # noqa: E402
from validate.test_hostile import MEGABYTE, OPTIONS, TEN_MEGABYTES  # type: ignore[import-not-found] # noqa: E402
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
RECIPE = "contrastive"
#: Rows of one batch of a run that judges as fast as it generates, and of one that has fallen behind.
BATCHES = (8, 170)


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


def answers(draw: Random, count: int) -> list[Round]:
    """Rounds of one answer with three items each, as the recipe asks for."""
    labels = ("Positive 1", "Positive 2", "Negative")
    return [
        Round(
            stage="generate",
            answers={"": "\n".join(f"{label}: {instruction(draw)}" for label in labels)},
            reference=instruction(draw),
        )
        for _ in range(count)
    ]


def judging(named: str, rows: int) -> None:
    """What the recipe's validators take for an item, here and in the worker of the embedding model."""
    vectors = Vectors(named, Settings(threads=1))
    loop = asyncio.new_event_loop()
    beside = threading.Thread(target=loop.run_forever)
    beside.start()
    vectors.begin(loop)
    judge = Judge(recipe(RECIPE, embedding=named), vectors.embed)
    draw = Random(9)
    try:
        judge.judge(answers(draw, 4))  # loads what is loaded once
        for batch in BATCHES:
            rounds = answers(draw, rows)
            start, there = time.process_time(), worker_seconds()
            judged = [judge.judge(rounds[at : at + batch]) for at in range(0, rows, batch)]
            here, there = time.process_time() - start, worker_seconds() - there
            items = sum(len(one.heard.items) for each in judged for many in each for one in many)
            print(
                f"{RECIPE}, {named.partition(':')[0]:8}{batch:4} rows a batch{here / items * 1e6:8.1f} us an item here,"
                f"{there / items * 1e6:8.1f} in the worker"
            )
    finally:
        asyncio.run_coroutine_threadsafe(vectors.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        beside.join()
        loop.close()


def worker_seconds() -> float:
    return sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children())


def ten_megabytes(kind: str) -> float:
    """Processor seconds of a long text against a short reference."""
    text = TEN_MEGABYTES * (10 * MEGABYTE // len(TEN_MEGABYTES))
    made = validator(kind, OPTIONS.get(kind, {}), embed=embed)
    start = time.process_time()
    made.check([Item(text=text, reference=TEN_MEGABYTES, role="positive", others=(text[:1000],))])
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--model", type=Path, help="an embedding model; by default MiniLM's shape with random weights")
    options = parser.parse_args()
    draw = Random(7)
    items = [
        Item(
            text=instruction(draw),
            reference=instruction(draw),
            role="positive",
            others=(instruction(draw),),
            scores={"embedding": 0.8, "direction": 0.5, "landmark": None, "combined": 0.6},
        )
        for _ in range(options.items)
    ]
    for kind in kinds():
        print(f"{kind:16}{cost(kind, items) * 1e6:8.1f} us an item{ten_megabytes(kind):8.2f} s for 10 MB", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        judging(LEXICAL, options.items // 3)
        judging(f"local:{options.model or write_minilm(Path(folder))}", options.items // 3)
    held_out()


if __name__ == "__main__":
    main()

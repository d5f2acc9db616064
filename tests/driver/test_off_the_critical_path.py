"""Validation is off the critical path: where it costs as much as generation, both go on at the same time.

Time is virtual, everything else is what a run is made of. An answer takes about a second, and each item that is judged
takes the judging thread as long as the case says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.costly import Toll
from driver.runs import script
from driver.virtual_time import Clock, Run
from tokenmill.driver.sequel import Grow, Spawn
from tokenmill.driver.storyteller import Storyteller
from tokenmill.pipeline import Check, Recipe, Stage
from tokenmill.pipeline.judging import Judge
from tokenmill.workload import Reader
from tokenmill.workload.spec import Spec

#: Seconds of an answer, more or less.
SLOTS, ANSWER = 4, 1.0
#: How many rows are good from their first, second and third round on; the last are hopeless with 3 rounds.
PLANTED = {1: 70, 2: 20, 3: 5, 4: 5}
PROMPTS = 70 + 2 * 20 + 3 * 5 + 3 * 5
#: What an item costs if all of them together are to cost as much as all answers.
EQUAL = ANSWER / SLOTS
RECIPE = Recipe(
    name="planted",
    rounds=3,
    stages=(
        Stage(
            name="say",
            prompt="{{ round }} of {{ needed }}",
            checks=(Check(use="function", options={"function": "driver.costly:good_from"}),),
        ),
    ),
)


@pytest.fixture(autouse=True)
def toll() -> Iterator[None]:
    yield
    Toll.loop, Toll.seconds, Toll.judged = None, 0.0, 0


def run(folder: Path, seconds: float) -> Run:
    """A run whose items cost this much each; the rows of each kind lie among the others."""
    folder.mkdir()
    needed = [kind for kind, count in PLANTED.items() for _ in range(count)]
    rows = [{"needed": needed[place * 37 % len(needed)]} for place in range(len(needed))]
    made = Run(folder, rows, script(folder, f"slots = {SLOTS}\nfirst_token = {ANSWER}\njitter = 0.6"), RECIPE)
    Toll.loop, Toll.seconds, Toll.judged = made.loop, seconds, 0
    return made


@pytest.fixture(scope="module")
def generating(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds of the run whose items cost nothing."""
    card = run(tmp_path_factory.mktemp("free") / "run", 0.0).play()
    assert card["stages"]["say"]["prompts"] == PROMPTS
    return float(card["time"]["seconds"])


@pytest.mark.parametrize("share", [0.5, 1.0, 2.0])
def test_a_run_takes_as_long_as_the_longer_of_the_two(tmp_path: Path, generating: float, share: float) -> None:
    """With judging half as dear as generating, as dear, or twice, the makespan is at most 1.1 times the longer."""
    card = run(tmp_path / "dear", share * EQUAL).play()

    assert generating == pytest.approx(PROMPTS * EQUAL, rel=0.02)
    assert card["stages"]["say"]["prompts"] == Toll.judged == PROMPTS
    assert card["time"]["seconds"] <= 1.1 * max(generating, PROMPTS * share * EQUAL)


def test_the_card_shows_what_judging_took_and_how_much_of_it_cost_no_time(tmp_path: Path) -> None:
    """The seconds of judging are those of its validator, and nearly all of them lie within the generation."""
    made = run(tmp_path / "dear", EQUAL)
    time = made.play()["time"]
    text = (made.folder / "data.card.md").read_text(encoding="utf-8")

    assert time["judging"] == pytest.approx(PROMPTS * EQUAL)
    assert time["judging_while_generating"] > 0.9
    assert f"| judging | {time['judging']} s, {time['judging_while_generating']:.1%} of it" in text


class OnTheLoop:
    """What a run must not do: judges each answer where answers are waited for."""

    def __init__(self, path: Path, reader: Reader, clock: Clock) -> None:
        self._teller = Storyteller(path, reader, RECIPE, Spec(source=""), reader.kind, Judge(RECIPE))
        self._clock = clock
        self._unwritten: list[tuple[int, int]] = []
        self._grow: Grow

    @property
    def is_busy(self) -> bool:
        return bool(self._unwritten)

    def begin(self, grow: Grow, spawn: Spawn) -> None:
        self._grow = grow

    def heard(self, row: int, number: int) -> None:
        self._unwritten.append((number, row))

    def written(self, number: int) -> None:
        rows = [row for entry, row in self._unwritten if entry <= number]
        self._unwritten = [each for each in self._unwritten if each[0] > number]
        if rows:
            batch = self._teller.go_on(rows, self._clock.now())
            self._grow(batch.entries, batch.arrived, batch.ended)

    async def close(self) -> None:
        self._teller.close()


def test_judging_where_answers_are_waited_for_would_be_seen(tmp_path: Path, generating: float) -> None:
    """The same run takes far longer if its items are judged on the loop, so the promise is one."""
    card = run(tmp_path / "inside", EQUAL).play(OnTheLoop)

    assert card["outcomes"] == {"short": 5, "success": 95}
    assert card["time"]["seconds"] > 1.3 * generating

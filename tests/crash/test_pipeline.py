"""A run with a recipe that is killed at any instant: no round is repeated, no item lost, the data set is the same."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from crash.scene import Instant, Scene

ROWS = 24
RECIPE = """
name = "lines"
rounds = 3
sampling = { temperature = 0.5 }
[[stage]]
name = "say"
n = 2
prompt = "round {{ round }}: {{ prompt }}"
target = { say = 2 }
[[stage.check]]
use = "length"
options = { min_words = 4 }
[[stage.check]]
use = "duplicate"
"""
FILES = ("out.jsonl", "out.rest.jsonl", "out.missed.jsonl")
SEED = 7


def state(scene: Scene) -> dict[str, dict[str, tuple[object, ...]]]:
    """Answers, items, scores and endings of a record, by the names of their prompts."""
    database = scene.run_folder / "record.db"
    if not database.exists():
        return {}
    named = "JOIN request ON request.row = {0}.row ORDER BY custom_id"
    with closing(sqlite3.connect(database)) as connection:
        found = {
            "answer": "SELECT custom_id, text FROM answer",
            "item": "SELECT custom_id || number, item.role, text, passed, reasons FROM item",
            "score": "SELECT custom_id || number || validator, value, passed, reason FROM score",
            "story": "SELECT custom_id, outcome, rounds, reasons FROM story",
        }
        kept = {
            table: {name: tuple(rest) for name, *rest in connection.execute(f"{query} {named.format(table)}")}
            for table, query in found.items()
        }
        names = Counter(name for (name,) in connection.execute("SELECT custom_id FROM request"))
        assert max(names.values()) == 1, "a round was repeated"
        answered = "SELECT row, count(*) FROM attempt WHERE outcome = 'answered' GROUP BY row HAVING count(*) > 1"
        assert connection.execute(answered).fetchall() == [], "an answer was repeated"
    return kept


@pytest.fixture(scope="module")
def calm(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Scene, list[bytes], dict[str, dict[str, tuple[object, ...]]]]:
    """The scene, and what it gives without a kill."""
    scene = Scene(tmp_path_factory.mktemp("pipeline"), rows=ROWS, more=["--pipeline", "recipe.toml"])
    (scene.folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    scene.given |= {"recipe.toml"}
    ended = scene.play(scene.run_words())
    assert ended.code == 0, ended.err
    return scene, [(scene.folder / name).read_bytes() for name in FILES], state(scene)


@pytest.mark.parametrize("number", range(6))
def test_a_killed_data_set_ends_like_the_calm_one(
    calm: tuple[Scene, list[bytes], dict[str, dict[str, tuple[object, ...]]]], number: int
) -> None:
    """Killed again and again at random words of the engine, a run keeps all it has and ends with the same bytes."""
    scene, files, whole = calm
    chance = random.Random(SEED + number)
    scene.wipe()
    before: dict[str, dict[str, tuple[object, ...]]] = {}
    for _ in range(3):
        scene.play(scene.next_words(), kill=Instant(chance.randrange(1, 2 * ROWS), chance.uniform(0, 0.02)))
        now = state(scene)
        for table, rows in before.items():
            assert rows.items() <= now[table].items(), f"lost or changed in {table}"
        before = now
    ended = scene.play(scene.next_words())

    assert ended.code == 0, ended.err
    assert [Path(scene.folder / name).read_bytes() for name in FILES] == files
    assert state(scene) == whole

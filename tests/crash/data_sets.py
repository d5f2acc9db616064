"""A run with a recipe as a scene: samples, rounds, a judge, and a row whose prompts are refused.

The numbers of prompts that are born during a run depend on timing, so everything here is known by their names.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crash.scene import OUTPUT, Calm, Instant, Look, Scene, Story, reading

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
[[stage]]
name = "rate"
of = "say"
judges = true
at_least = 5
prompt = "Rate this: {{ item.text }}"
[stage.parse]
kind = "verdict"
"""
RULES = """
[[rule]]
match = "number 3$"
fail = "refused"
message = "no"
[[rule]]
match = "^Rate .*number [57]"
answer = "Reason: it is odd. Score: 2"
[[rule]]
match = "^Rate "
answer = "Reason: fine. Score: 8"
"""
#: What a row's story is made of, by the names of its prompts.
TABLES = {
    "answer": "SELECT custom_id, text FROM answer",
    "failure": "SELECT custom_id, kind, message FROM failure",
    "item": "SELECT custom_id || '#' || number, item.role, text, passed, value, merit, reasons FROM item",
    "score": "SELECT custom_id || '#' || number || ' ' || validator, value, passed, reason FROM score",
    "story": "SELECT custom_id, outcome, rounds, reasons FROM story",
}
#: Figures of the card that tell of time, or of attempts that a kill made vain.
OF_THIS_RUN = ("time", "seconds", "busy", "generat", "judging", "tokens", "joules")

Kept = dict[tuple[str, str], tuple[Any, ...]]


class DataSet(Scene):
    """Rows that end after one, two or three rounds, or short, or failed."""

    def __init__(self, folder: Path, *, rows: int = 12, slots: int = 4) -> None:
        super().__init__(folder, rows=rows, slots=slots, more=["--pipeline", "recipe.toml"])
        (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
        with (folder / "script.toml").open("a", encoding="utf-8") as script:
            script.write(RULES)
        self.given |= {"recipe.toml"}
        name = Path(OUTPUT).stem
        self.files = [self.folder / each for each in (OUTPUT, f"{name}.rest.jsonl", f"{name}.missed.jsonl")]
        self.cards = [self.folder / f"{name}.card.{kind}" for kind in ("json", "md")]
        self.made |= {path.name for path in (*self.files, *self.cards)}
        self.card: dict[str, Any] = {}

    def calm(self) -> Calm:
        calm = super().calm()
        self.rows = len(calm.texts) + len(calm.failures)
        return calm

    def look(self) -> Look:
        """What the record holds, under the names of the prompts."""
        found = super().look()
        names = found.ids
        return Look(  # type: ignore[arg-type]
            ids={name: name for name in names.values()},
            answers={names[row]: said for row, said in found.answers.items()},
            failures={names[row]: kind for row, kind in found.failures.items()},
            attempts=Counter({names[row]: count for row, count in found.attempts.items()}),
            answered_attempts=Counter({names[row]: count for row, count in found.answered_attempts.items()}),
            in_flight=frozenset(names[row] for row in found.in_flight),
        )

    def kept(self) -> Kept:
        """Answers, failures, items, scores and endings of the record, by the names of their prompts."""
        with reading(self.run_folder / "record.db") as connection:
            return {} if connection is None else dict(_rows(connection))

    def product(self) -> bytes:
        """All files of the data set but for the times and costs of their card, and all that the record says."""
        if not all(path.exists() for path in (*self.files, *self.cards)):
            return b""
        self.card = _lasting(json.loads(self.cards[0].read_bytes()))
        parts = [path.read_bytes() for path in self.files]
        return b"\n".join(
            [*parts, json.dumps(self.card, indent=1).encode(), repr(sorted(self.kept().items())).encode()]
        )

    def story(self, calm: Calm) -> DataStory:
        return DataStory(self, calm)


class DataStory(Story):
    """Compares items, scores and endings as well, after every act."""

    def __init__(self, scene: DataSet, calm: Calm) -> None:
        super().__init__(scene, calm)
        self._kept = scene.kept()

    def check_between(self) -> None:
        super().check_between()
        assert isinstance(self.scene, DataSet)
        try:
            now = self.scene.kept()
        except RoundRepeated as error:
            self.faults.append(f"repeated: {error}")
            return
        for key, said in self._kept.items():
            if now.get(key) != said:
                self.faults.append(f"{'changed' if key in now else 'lost'}: {key} said {said}, says {now.get(key)}")
        self._kept = now


class RoundRepeated(Exception):
    """A prompt is in the record twice."""


def killed(scene: DataSet, calm: Calm, chance: random.Random, kills: int = 1) -> Story:
    """A run that is killed at any instant, then its resumes, and at last one that isn't."""
    scene.wipe()
    story = scene.story(calm)
    for _ in range(kills):
        left = scene.rows - len(scene.look().answers)
        story.act(scene.next_words(), kill=scene.instant(chance, calm.seconds, left))
    story.finish()
    return story


def half_done(scene: DataSet, to: Path) -> Path:
    """The run as a kill left it halfway, kept in a folder."""
    scene.wipe()
    scene.play(scene.run_words(), kill=Instant(scene.rows, 0.0))
    scene.save(to)
    return to


def _rows(connection: sqlite3.Connection) -> Iterator[tuple[tuple[str, str], tuple[Any, ...]]]:
    names = Counter(name for (name,) in connection.execute("SELECT custom_id FROM request"))
    if again := [name for name, count in names.items() if count > 1]:
        raise RoundRepeated(f"{', '.join(again)} were asked twice")
    for table, query in TABLES.items():
        for name, *said in connection.execute(f"{query} JOIN request ON request.row = {table}.row"):
            yield (table, name), tuple(said)


def _lasting(card: Any) -> Any:
    if not isinstance(card, dict):
        return card
    return {name: _lasting(said) for name, said in card.items() if not name.startswith(OF_THIS_RUN)}

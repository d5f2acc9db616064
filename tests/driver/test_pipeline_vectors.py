"""A recipe that compares meanings by a local embedding model."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from driver.runs import run, script
from engine.embedding.encoders import write_encoder
from tokenmill.cluster import Node
from tokenmill.driver.prepare import RECORD
from tokenmill.engine.embedding import make_embedder
from tokenmill.errors import UsageError
from tokenmill.pipeline import Check, Recipe, Stage
from tokenmill.validate import Item, validator

TEXT = "turn left at the church"


def recipe(folder: Path) -> Recipe:
    stage = Stage(name="say", prompt="{{ text }}", reference="{{ text }}", checks=(Check(use="embedding"),))
    return Recipe(name="near", embedding=f"local:{folder}", stages=(stage,))


def test_vectors_come_from_the_model_that_the_recipe_names(tmp_path: Path) -> None:
    """The recorded score is the cosine that the model itself gives; another model is refused on resume."""
    folder = tmp_path / "encoder"
    write_encoder(folder)
    node = script(tmp_path, 'answer = "go left by the church"')
    answers = run(tmp_path, [{"text": TEXT}], node, pipeline=recipe(folder), run_id="x")
    with sqlite3.connect(answers.folder / RECORD) as connection:
        (value,) = connection.execute("SELECT value FROM score WHERE validator = 'embedding'").fetchone()

    assert value == pytest.approx(_cosine(folder), abs=2e-4)

    shutil.rmtree(folder)
    write_encoder(folder, pooling="cls")
    with pytest.raises(UsageError, match="embedding model changed"):
        run(tmp_path, [{"text": TEXT}], node, pipeline=recipe(folder), run_id="x", resume=True)


def _cosine(folder: Path) -> float:
    async def asked() -> np.ndarray:
        embedder = make_embedder(Node(name="e", engine="local", target=str(folder)))
        await embedder.open()
        try:
            return await embedder.embed([TEXT, "go left by the church"])
        finally:
            await embedder.close()

    vectors = asyncio.run(asked())
    made = validator("embedding", {}, embed=lambda _: vectors)
    (score,) = made.check([Item(text="go left by the church", reference=TEXT)])
    assert score.value is not None
    return score.value


def test_a_killed_embedding_model_is_opened_again(tmp_path: Path) -> None:
    """Killed after the first round, the model tells the second what it would have told it anyway."""
    folder = tmp_path / "encoder"
    write_encoder(folder)
    checks = (Check(use="embedding"), Check(use="function", options={"function": "driver.judging_functions:killing"}))
    stage = Stage(
        name="say", prompt="{{ text }}", refine="again {{ text }}", reference="{{ text }}", checks=checks, rounds=2
    )
    node = script(
        tmp_path,
        """
        answer = "shoot left by the church"
        [[rule]]
        match = "^again"
        answer = "go left by the church"
        """,
    )
    named = Recipe(name="near", embedding=f"local:{folder}", stages=(stage,))
    answers = run(tmp_path, [{"text": TEXT}], node, pipeline=named)
    with sqlite3.connect(answers.folder / RECORD) as connection:
        found = connection.execute(
            "SELECT text, score.value FROM score JOIN item USING (row, number) "
            "WHERE validator = 'embedding' ORDER BY row"
        ).fetchall()
        outcome = connection.execute("SELECT outcome, rounds FROM story").fetchall()

    assert outcome == [("success", 2)]
    assert [text for text, _ in found] == ["shoot left by the church", "go left by the church"]
    assert found[1][1] == pytest.approx(_cosine(folder), abs=2e-4)

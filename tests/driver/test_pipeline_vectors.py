"""A recipe that compares meanings by a local embedding model."""

from __future__ import annotations

import asyncio
import json
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
from tokenmill.errors import NodeGone, UsageError
from tokenmill.pipeline import Check, Recipe, Stage
from tokenmill.testing import Behaviour, FaultServer, Status
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


@pytest.mark.parametrize("kind", ["ollama", "openai"])
@pytest.mark.parametrize("long", ["item", "reference"])
def test_a_text_that_the_model_does_not_take_fails_alone(tmp_path: Path, kind: str, long: str) -> None:
    """Too long for the embedding server, it has no score and a reason; texts asked beside it have theirs."""
    node = script(
        tmp_path, f'slots = 4\nanswer = "go left by the church"\n[[rule]]\nmatch = "on"\nanswer = "{"on " * 300}"'
    )
    rows = [{"text": TEXT, "about": TEXT} for _ in range(3)]
    rows.append({"text": TEXT, "about": "far " * 300} if long == "reference" else {"text": "go on", "about": TEXT})
    checks = (Check(use="embedding", options={"at_least": -1.0}),)
    stage = Stage(name="say", prompt="{{ text }}", reference="{{ about }}", checks=checks)
    with FaultServer(Behaviour(slots=2, dimensions=24, context=64, default_context=64)) as server:
        named = Recipe(name="near", embedding=f"{kind}:{server.url}", stages=(stage,))
        answers = run(tmp_path, rows, node, pipeline=named)
    assert answers.output is not None
    (missed,) = map(json.loads, answers.output.with_name("data.missed.jsonl").read_text().splitlines())

    assert len(answers.output.read_text().splitlines()) == 3
    assert (missed["id"], missed["outcome"]) == ("row-4", "short")
    told = "this text" if long == "item" else "the reference"
    assert f"The model gives no vector for {told}" in missed["reasons"][1]


def test_a_model_that_takes_no_text_any_more_is_gone(tmp_path: Path) -> None:
    """A server that begins to refuse whatever it is asked stops the run, and no row has failed by it."""
    folder = tmp_path / "run"
    folder.mkdir()
    with FaultServer(
        Behaviour(slots=2, dimensions=24, fault=(Status(status=400, numbers=tuple(range(2, 100))),))
    ) as server:
        named = Recipe(name="near", embedding=f"openai:{server.url}", stages=(recipe(tmp_path).stages[0],))
        with pytest.raises(NodeGone, match=r"embedding .*: refused: "):
            run(folder, [{"text": TEXT}], script(folder, 'answer = "go left"'), pipeline=named)

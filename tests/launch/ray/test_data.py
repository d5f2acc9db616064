"""Ray Data in and out, on a real Ray: pipelines whose rows actors answer, and runs that begin and end as datasets."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest

import tokenmill
import tokenmill.ray
from tokenmill.errors import UsageError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray"), pytest.mark.filterwarnings("ignore")]

SCRIPT = """
slots = 4
answer = "Echo of {prompt}"
[[rule]]
match = "poison"
crash = true
[[rule]]
match = "wrong"
fail = "refused"
message = "the script says no"
[[rule]]
match = "flaky"
fail = "transient"
times = 1
"""


def scripted(folder: Path) -> str:
    path = folder / "script.toml"
    path.write_text(SCRIPT, encoding="utf-8")
    return f"scripted:{path}"


def sentences(count: int) -> list[dict[str, Any]]:
    return [{"id": f"row-{n}", "prompt": f"Give me {1 + n % 5} sentences about rivers."} for n in range(count)]


def test_the_examples_of_the_documentation_run() -> None:
    """What the module's docstring shows is what happens."""
    assert doctest.testmod(tokenmill.ray).failed == 0


def test_answers_are_those_of_a_run(tmp_path: Path) -> None:
    """However Ray cuts and spreads the rows, each gets the answer that a run gives it, sampled ones included."""
    import ray.data

    rows = sentences(24)
    sampling = {"max_tokens": 30, "temperature": 0.9, "seed": 7}
    expected = tokenmill.run(rows, model="demo", id_column="id", runs_dir=tmp_path, prompt_column="prompt", **sampling)
    pipeline = ray.data.from_items([row | {"kept": n} for n, row in enumerate(rows)], override_num_blocks=6)
    two = ray.data.ActorPoolStrategy(size=2)
    answered = tokenmill.ray.map_batches(pipeline, model="demo", id_column="id", batch_size=4, compute=two, **sampling)

    found = answered.take_all()

    assert [row["kept"] for row in found] == list(range(24))
    assert {row["id"]: row["answer"] for row in found} == {each.custom_id: each.text for each in expected}
    assert all(row["failure"] is None and row["output_tokens"] > 0 for row in found)


def test_a_row_that_fails_is_a_row(tmp_path: Path) -> None:
    """Crash, refusal and a row without a prompt are columns of their rows; the others are answered."""
    import ray.data

    prompts = ["a river", "poison", "wrong", "flaky", "", None, *(f"lake {n}" for n in range(20))]
    pipeline = ray.data.from_items([{"prompt": prompt} for prompt in prompts], override_num_blocks=2)

    found = tokenmill.ray.map_batches(pipeline, nodes=[scripted(tmp_path)], prefix="tm_").take_all()

    failures = {row["prompt"]: row["tm_failure"] for row in found if row["tm_failure"] is not None}
    assert failures == {"poison": "poison", "wrong": "refused", "": "refused", None: "refused"}
    assert sum(row["tm_answer"] == f"Echo of {row['prompt']}" for row in found) == len(prompts) - 4
    assert "the script says no" in next(row["tm_failure_message"] for row in found if row["prompt"] == "wrong")


def test_columns_of_numpy_are_fine(tmp_path: Path) -> None:
    """The callable itself takes the batches that Ray Data makes by default."""
    import ray.data

    pipeline = ray.data.from_items([{"number": n, "prompt": f"lake {n}"} for n in range(5)])
    given = {"nodes": [scripted(tmp_path)], "prompt_column": "prompt"}
    one = ray.data.ActorPoolStrategy(size=1)

    found = pipeline.map_batches(tokenmill.ray.Answering, fn_constructor_kwargs=given, compute=one).take_all()

    assert [(row["number"], row["answer"]) for row in found] == [(n, f"Echo of lake {n}") for n in range(5)]


def test_what_can_not_work_is_said_at_once() -> None:
    """A misspelt option, one without a meaning here, and a step without a model never reach an actor."""
    import ray.data

    pipeline = ray.data.from_items([{"prompt": "a river"}])

    with pytest.raises(UsageError, match="max_token'"):
        tokenmill.ray.map_batches(pipeline, model="demo", max_token=3)
    with pytest.raises(UsageError, match="durability"):
        tokenmill.ray.map_batches(pipeline, model="demo", durability="full")
    with pytest.raises(UsageError, match="give model= or nodes="):
        tokenmill.ray.map_batches(pipeline)


def test_what_fails_every_row_ends_the_pipeline(tmp_path: Path) -> None:
    """No column of that name, and a model that no host has, are raised and not written into each row."""
    import ray.data

    pipeline = ray.data.from_items([{"text": "a river"}])

    with pytest.raises(Exception, match="no column 'prompt'; it has text"):
        tokenmill.ray.map_batches(pipeline, nodes=[scripted(tmp_path)]).take_all()
    with pytest.raises(Exception, match="nowhere"):
        tokenmill.ray.map_batches(pipeline, model=str(tmp_path / "nowhere"), prompt_column="text").take_all()


def test_a_run_begins_and_ends_as_a_dataset(tmp_path: Path) -> None:
    """The rows of a dataset are the input of a run, and its answers, failures among them, a dataset again."""
    import ray.data

    prompts = ["a river", "wrong", *(f"lake {n}" for n in range(10))]
    source = ray.data.from_items([{"name": f"n{n}", "text": prompt} for n, prompt in enumerate(prompts)])
    shape = {"prompt_column": "text", "id_column": "name", "runs_dir": tmp_path, "nodes": [scripted(tmp_path)]}

    answers = tokenmill.ray.run(source, **shape)
    rows = tokenmill.ray.dataset(answers).take_all()
    again = tokenmill.ray.dataset(answers.folder).take_all()

    assert [row["custom_id"] for row in rows] == [f"n{n}" for n in range(12)]
    assert rows == again
    assert [row["failure"] for row in rows if row["answer"] is None] == ["refused"]
    assert answers.is_complete
    assert answers.certificate is not None

"""A run over a server that cuts long prompts in silence: the note at its start, and what becomes of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tokenmill
from tokenmill.driver.progress import Progress
from tokenmill.testing import Behaviour, FaultServer

CUTTING = Behaviour(overflow="silent", heeds_truncate=False, context=1200, default_context=1200)
ROWS = ["Say a few words.", "of " * 1203, "word " * 3000]


class Notes:
    """A watcher that keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def watch(self, progress: Progress, now: float) -> None:
        self.notes = list(progress.notes)

    def leave(self) -> None:
        pass


def run(folder: Path, server: FaultServer, kind: str, rows: Any = ROWS, **options: Any) -> tuple[Any, list[str]]:
    watcher, nodes = Notes(), [f"{kind}:{server.url}"]
    answers = tokenmill.run(rows, nodes=nodes, runs_dir=folder, durability="process", watcher=watcher, **options)
    return answers, watcher.notes


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_rows_that_would_be_cut_fail_by_name(tmp_path: Path, kind: str) -> None:
    """The note names node, count and remedy; short rows are answered, long ones fail as `cut`, none in silence."""
    with FaultServer(CUTTING) as server:
        answers, notes = run(tmp_path, server, kind)
        state = server.state()

    assert [text is not None for text in answers.texts] == [True, False, False]
    assert answers.failed == {"cut": 2}
    assert sum("read 602 tokens of a trial prompt" in note and "num_ctx" in note for note in notes) == 1
    assert state.asked == 1 + 2  # the trial, and the two rows that may fit


@pytest.mark.parametrize("options", [{"rpm": 6000}, {"canary": "no"}, {"budget_tokens": 100_000}])
def test_no_trial_where_it_costs_or_is_not_wanted(tmp_path: Path, options: dict[str, Any]) -> None:
    """With limits of rate or money, or by choice, nothing but rows is sent."""
    with FaultServer(CUTTING) as server:
        _, notes = run(tmp_path, server, "openai", ["Say a few words.", "word " * 1500], **options)
        assert server.state().asked == 2
    assert not any("trial" in note for note in notes)


def test_short_rows_need_no_trial(tmp_path: Path) -> None:
    """Where no row is long nothing but rows is sent."""
    with FaultServer(CUTTING) as server:
        answers, notes = run(tmp_path, server, "openai", ["Say a few words."])
        assert server.state().asked == len(answers)
    assert notes == []

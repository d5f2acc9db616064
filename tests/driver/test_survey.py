"""How often servers are asked what they hold before they are asked for text."""

from __future__ import annotations

from pathlib import Path

import pytest

import tokenmill
from tokenmill.testing import Behaviour, FaultServer

PROMPTS = [f"Say {number} in words." for number in range(4)]


def run(folder: Path, server: FaultServer, **options: object) -> tokenmill.Answers:
    nodes = [f"ollama:{server.url}"]
    return tokenmill.run(PROMPTS, nodes=nodes, runs_dir=folder, durability="process", run_id="a", **options)  # type: ignore[arg-type]


def test_a_fresh_run_asks_each_server_once_before_it_is_opened(tmp_path: Path) -> None:
    """A fresh run reads the list of models twice: when it is prepared, and when the node is opened."""
    with FaultServer(Behaviour()) as server:
        run(tmp_path, server)
        assert server.state().by_path["/api/tags"] == 2


def test_a_resume_refuses_another_model_before_anything_is_sent(tmp_path: Path) -> None:
    """A run that stopped at its budget isn't gone on with by a server that holds another model by now."""
    with FaultServer(Behaviour()) as server:
        assert not run(tmp_path, server, budget_tokens=40).is_complete
        asked = server.state().asked
        server.behave(digest="f" * 64)
        with pytest.raises(tokenmill.TokenmillError, match="the model changed"):
            run(tmp_path, server, resume=True)
        assert server.state().asked == asked

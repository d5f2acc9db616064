"""A run over three hosts, one of which is cut off in the middle and comes back."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from namespaces import Land, land
from requirements import require

ROWS = 900
#: Four slots that answer in about a tenth of a second, so that a run takes some seconds.
SCRIPT = "slots = 4\nrate = 300\nchunks = 8\n"
#: The command with its progress, a JSON object a second, on the pipe where its result goes, too.
LOUD = "import os, sys; os.dup2(1, 2); from tokenmill.cli import main; sys.argv[0] = 'tokenmill'; main()"
CLOCKS = {f"TOKENMILL_{clock}_TIMEOUT": "1" for clock in ("CONNECT", "GAP", "FIRST_TOKEN")}


@pytest.fixture
def hosts() -> Iterator[Land]:
    require("netns")
    with land() as made:
        yield made


def told(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """What the command prints, as it comes; notes about nodes are left out."""
    assert process.stdout is not None, "the process was started with a pipe"
    for line in process.stdout:
        if line.startswith(b"{"):
            yield json.loads(line)


def test_a_host_that_is_cut_off_and_returns_costs_nothing(hosts: Land, tmp_path: Path) -> None:
    """Rows in flight there are answered elsewhere, none is lost or repeated, and once back it takes part again."""
    for host in ("b", "c"):
        hosts.serve(host, tmp_path, SCRIPT, port=8000)
    rows = tmp_path / "rows.txt"
    rows.write_text("".join(f"Say {row} in words.\n" for row in range(ROWS)))
    nodes = [word for host in ("b", "c") for word in ("--node", f"openai:http://{hosts.address(host)}:8000")]
    output = tmp_path / "answers.jsonl"
    options = [
        "--slots",
        "4",
        "--runs-dir",
        str(tmp_path / "runs"),
        "-o",
        str(output),
        "--json",
        "--health-interval",
        "1",
    ]
    running = hosts.start("a", "-c", LOUD, "run", str(rows), *nodes, *options, **CLOCKS)
    facts: dict[str, Any] = {}
    steps = iter(((ROWS // 6, hosts.cut), (ROWS // 3, hosts.restore), (ROWS + 1, hosts.restore)))
    due, act = next(steps)
    for facts in told(running):
        if facts["answered"] >= due:
            act("c")
            due, act = next(steps)
    assert running.wait(60) == 0
    assert (facts["answered"], facts["failed"], facts["unfinished"]) == (ROWS, {}, 0)
    ids = [json.loads(line)["custom_id"] for line in output.read_text().splitlines()]
    assert ids == [f"row-{row + 1}" for row in range(ROWS)]
    assert_it_came_back(tmp_path / "runs")


def assert_it_came_back(runs: Path) -> None:
    """The record tells of answers by host c before it was cut off and after its return, with failures between."""
    (record,) = runs.glob("*/record.db")
    connection = sqlite3.connect(record)
    try:
        query = "SELECT outcome FROM attempt WHERE node = 1 ORDER BY finished, id"
        outcomes = [outcome for (outcome,) in connection.execute(query)]
    finally:
        connection.close()
    failed = [place for place, outcome in enumerate(outcomes) if outcome == "failed"]
    assert failed
    assert "answered" in outcomes[: failed[0]]
    assert "answered" in outcomes[failed[-1] :]

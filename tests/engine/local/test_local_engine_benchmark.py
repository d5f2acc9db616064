"""The benchmark of the local engine, on a model too small to mean anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "local_engine.py"


def run(cache: Path) -> dict[str, Any]:
    command = [sys.executable, SCRIPT, "--shape", "tiny", "--threads", "1", "--repeats", "1", "--json"]
    done = subprocess.run([*command, "--cache", cache], capture_output=True, check=True, text=True, timeout=300)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_an_interrupted_benchmark_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Finished measurements are kept, one cut off is made again, and targets for another shape aren't judged."""
    first = run(tmp_path)
    [kept] = tmp_path.glob("*.jsonl")
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(lines[:2]) + lines[2][:20])

    second = run(tmp_path)

    engines = {one["engine"] for one in first["measurements"]}
    assert len(engines) == len(first["measurements"]) == len(second["measurements"]) == 3
    again = {one["engine"] for one in second["measurements"] if one not in first["measurements"]}
    assert again == {json.loads(lines[2])["engine"]}
    assert all(verdict["outcome"].startswith("n/a") for verdict in second["verdicts"])

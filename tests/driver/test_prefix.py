"""Rows that begin alike stay together in a real run."""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from pathlib import Path

import tokenmill
from tokenmill.event import prefix_of


def test_each_node_changes_its_beginning_at_most_once(tmp_path: Path) -> None:
    """With two long system prompts and two nodes, a node turns to the other one only when its own is used up."""
    rows = [
        {"messages": [{"role": "system", "content": f"You know {what}. " * 40}, {"role": "user", "content": "Why?"}]}
        for what in ("the law", "all birds")
        for _ in range(20)
    ]
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text("", encoding="utf-8")
    nodes = [f"scripted:{tmp_path / name}.toml" for name in ("one", "two")]

    answers = tokenmill.run(
        rows,
        nodes=nodes,
        strategy="prefix",
        order="file",
        hedge=False,
        runs_dir=tmp_path / "runs",
        durability="process",
    )

    served: dict[int, list[int]] = {}
    connection = sqlite3.connect(answers.folder / "record.db")
    for node, group in connection.execute(
        "SELECT a.node, r.grp FROM attempt a JOIN request r USING (row) ORDER BY a.id"
    ):
        served.setdefault(node, []).append(prefix_of(group))
    connection.close()
    assert sorted(prefix for prefixes in served.values() for prefix in prefixes) == [1] * 20 + [2] * 20
    assert all(sum(one != other for one, other in pairwise(prefixes)) <= 1 for prefixes in served.values())

"""What attempts without an answer cost is recorded, and counts against the budget."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import tokenmill
from tokenmill.record.store import Record
from tokenmill.testing import Behaviour, FaultServer, Reset, Slow, Status
from tokenmill.testing.fault import Fault

PROMPTS = [f"Say {number} in words." for number in range(40)]


def behaviour(*faults: Fault, slots: int = 4) -> Behaviour:
    return Behaviour(slots=slots, rate=4000.0, chunks=4, least_words=8, most_words=8, fault=faults)


def run(folder: Path, servers: FaultServer, **options: Any) -> tokenmill.Answers:
    nodes = [f"openai:{url}" for url in servers.urls]
    options = {"strategy": "pull"} | options
    return tokenmill.run(PROMPTS, nodes=nodes, runs_dir=folder / "runs", durability="process", **options)


def costs(answers: tokenmill.Answers, outcome: str) -> list[tuple[str, int, int]]:
    """(kind, tokens read, tokens written) of every attempt that ended like this."""
    connection = sqlite3.connect(answers.folder / "record.db")
    try:
        query = "SELECT kind, prompt_tokens, output_tokens FROM attempt WHERE outcome = ? ORDER BY id"
        return list(connection.execute(query, (outcome,)))
    finally:
        connection.close()


def test_an_answer_that_is_not_accepted_costs_what_the_server_says(tmp_path: Path) -> None:
    """A row that failed for its length was read and written in full."""
    with FaultServer(behaviour()) as server:
        refused = run(tmp_path, server, max_tokens=4, on_odd={"length": "fail"})
        accepted = run(tmp_path, server, max_tokens=4)
    assert refused.failed == {"length": len(PROMPTS)}
    found = [(result.prompt_tokens, result.output_tokens) for result in accepted]
    assert sorted((read, written) for _, read, written in costs(refused, "failed")) == sorted(found)


def test_a_run_that_only_fails_stops_at_its_budget(tmp_path: Path) -> None:
    """Failures that cost tokens end the run as answers would."""
    with FaultServer(behaviour()) as server:
        stopped = run(tmp_path, server, max_tokens=4, on_odd={"length": "fail"}, budget_tokens=100)
    assert not stopped.is_complete
    spent = sum(read + written for _, read, written in costs(stopped, "failed"))
    assert spent > 100 - 4 * 20
    assert 0 < stopped.failed["length"] < len(PROMPTS)


def test_what_broke_off_is_estimated_and_what_was_refused_is_free(tmp_path: Path) -> None:
    """A reset after 3 pieces cost the prompt and 3 tokens; an error instead of an answer cost nothing."""
    with FaultServer(behaviour(Reset(pieces=3, numbers=(2,)), Status(status=500, numbers=(5,)))) as server:
        answers = run(tmp_path, server)
    assert answers.failed == {}
    broken, refused = sorted(costs(answers, "failed"), key=lambda cost: -cost[1])
    assert refused == ("transient", 0, 0)
    kind, read, written = broken
    assert kind == "transient"
    assert 5 <= read <= 20
    assert 1 <= written <= 3


def test_the_loser_of_a_second_attempt_is_paid_for(tmp_path: Path) -> None:
    """What a straggler had read and written when it was cancelled is in the record."""
    slow = behaviour(Slow(factor=1e6, numbers=(8,)))
    with FaultServer(slow, behaviour()) as servers:
        answers = run(tmp_path, servers)
    ((kind, read, _),) = costs(answers, "cancelled")
    assert kind == "hedge"
    assert read > 0


def test_sessions_add_up(tmp_path: Path) -> None:
    """A resume begins with all that was spent before, with and without an answer."""
    with FaultServer(behaviour(Reset(pieces=3, share=0.3, times=1))) as server:
        stopped = run(tmp_path, server, budget_tokens=300)
        record = Record(stopped.folder / "record.db")
        read, written, answers, vain_read, vain_written = record.tokens()
        record.close()
    failed = costs(stopped, "failed") + costs(stopped, "cancelled")
    assert answers == sum(result.text is not None for result in stopped)
    assert read + written > 0
    assert (vain_read, vain_written) == (sum(cost[1] for cost in failed), sum(cost[2] for cost in failed))


def test_what_a_kill_leaves_in_flight_is_taken_for_a_mean_answer(tmp_path: Path) -> None:
    """Nobody can say what it had cost when the driver died."""
    with FaultServer(behaviour()) as server:
        answers = run(tmp_path, server)
    record = Record(answers.folder / "record.db")
    read, written, count, *_ = record.tokens()
    connection = sqlite3.connect(answers.folder / "record.db")
    connection.execute("INSERT INTO attempt (id, row, lease, node, session, dispatched) VALUES (999, 0, 9, 0, 0, 1.0)")
    connection.commit()
    connection.close()
    assert record.recover() == 1
    assert record.tokens() == (read, written, count, read // count, written // count)
    record.close()

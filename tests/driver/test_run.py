"""What `tokenmill.run` promises, on the scripted engine."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

import tokenmill
from driver.runs import attempts, run, script
from tokenmill.driver.progress import Progress
from tokenmill.errors import InputFaults, UsageError


class Interrupter:
    """Sends this process the interrupt of a Ctrl-C as soon as three answers are there."""

    def __init__(self) -> None:
        self.sent = False

    def watch(self, progress: Progress, now: float) -> None:
        if progress.answered >= 3 and not self.sent:
            self.sent = True
            signal.raise_signal(signal.SIGINT)


def test_answers_come_in_input_order(tmp_path: Path) -> None:
    """However the answers arrive, they are read in the order of the input."""
    node = script(tmp_path, 'slots = 8\n[[rule]]\nmatch = "slow"\nfirst_token = 0.05\n')
    prompts = [f"slow {n}" if n % 3 == 0 else f"quick {n}" for n in range(20)]

    assert run(tmp_path, prompts, node).texts == prompts


def test_equal_runs_give_equal_files(tmp_path: Path) -> None:
    """Two runs of the same input, options and answers write the same bytes."""
    first = run(tmp_path, ["a", "b"], output=tmp_path / "first.jsonl")
    second = run(tmp_path, ["a", "b"], output=tmp_path / "second.jsonl")

    assert first.run_id != second.run_id
    assert (tmp_path / "first.jsonl").read_bytes() == (tmp_path / "second.jsonl").read_bytes()


def test_a_failure_that_passes_is_tried_again(tmp_path: Path) -> None:
    """A transient failure costs another attempt with a new lease, not the row."""
    node = script(tmp_path, '[[rule]]\nmatch = "flaky"\nfail = "transient"\ntimes = 1\n')
    answers = run(tmp_path, ["flaky", "fine"], node)

    assert answers.texts == ["flaky", "fine"]
    assert attempts(answers) == [(0, 1, "failed", "transient"), (1, 1, "answered", ""), (0, 2, "answered", "")]


def test_a_final_failure_is_data(tmp_path: Path) -> None:
    """A request that can't succeed fails alone, with its class, and stands in the errors file as well."""
    node = script(tmp_path, '[[rule]]\nmatch = "bad"\nfail = "refused"\nmessage = "no"\n')
    answers = run(tmp_path, ["good", "bad"], node, output=tmp_path / "out.jsonl")

    assert answers.failed == {"refused": 1}
    (line,) = (tmp_path / "out.errors.jsonl").read_text().splitlines()
    assert json.loads(line)["error"] == {"code": "refused", "message": "no"}
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2


def test_retries_end(tmp_path: Path) -> None:
    """A row that keeps failing is set aside after its attempts, as many as were allowed."""
    node = script(tmp_path, '[[rule]]\nmatch = "x"\nfail = "transient"\n')
    answers = run(tmp_path, ["x"], node, retries=0)

    assert answers.failed == {"transient": 1}
    assert len(attempts(answers)) == 1


def test_a_poison_row_costs_one_row(tmp_path: Path) -> None:
    """A request that kills its engine is set aside alone; all that were in flight with it are answered."""
    node = script(tmp_path, 'slots = 32\nfirst_token = 0.02\n[[rule]]\nmatch = "poison"\ncrash = true\n')
    answers = run(tmp_path, [f"row {n}" if n != 7 else "poison" for n in range(32)], node)

    assert answers.failed == {"poison": 1}
    assert [text for text in answers.texts if text is None] == [None]
    crashes = [row for row, _, _, kind in attempts(answers) if kind == "crash"]
    assert crashes.count(7) == 4  # once among others, then three times alone


def test_oddities_follow_their_policy(tmp_path: Path) -> None:
    """An empty answer fails, one cut at its limit is flagged, and both may be chosen otherwise."""
    node = script(
        tmp_path,
        '[[rule]]\nmatch = "empty"\nanswer = " "\n[[rule]]\nmatch = "loop"\n'
        'answer = "' + "again " * 60 + '"\ntokens = 60\nfinish_reason = "length"\n',
    )
    answers = run(tmp_path, ["empty", "one two three", "loop"], node, max_tokens=80)
    kept = run(tmp_path, ["empty", "loop"], node, on_odd={"empty": "flag", "length": "fail"})

    assert answers.failed == {"empty": 1}
    assert [result.flags for result in answers] == ["", "", "length,repetition"]
    assert [result.flags for result in kept] == ["empty", ""]
    assert kept.failed == {"length": 1}


def test_rows_born_during_a_run_follow_their_parent(tmp_path: Path) -> None:
    """An answer may give rise to rows; they carry parent, round and role and stand behind their input row."""

    def follow(request: object, text: str) -> list[dict[str, str]]:
        return [{"prompt": f"{text}!", "role": "refine"}] if len(text) < 3 else []

    answers = run(tmp_path, ["a", "bbb"], follow=follow)

    assert [(r.custom_id, r.parent, r.round, r.role, r.text) for r in answers] == [
        ("row-1", None, 0, "", "a"),
        ("row-1.1", 0, 1, "refine", "a!"),
        ("row-1.1.1", 2, 2, "refine", "a!!"),
        ("row-2", None, 0, "", "bbb"),
    ]


def test_a_notebook_can_run(tmp_path: Path) -> None:
    """`run` works where an event loop is running already."""

    async def cell() -> list[str | None]:
        return run(tmp_path, ["hello"]).texts

    assert asyncio.run(cell()) == ["hello"]


def test_an_interrupted_run_resumes_under_its_name(tmp_path: Path) -> None:
    """Answers of the first session stay; the second asks only for what is missing."""
    node = script(tmp_path, "slots = 1\nfirst_token = 0.02\n")
    rows = [f"row {n}" for n in range(30)]
    first = run(tmp_path, rows, node, run_id="r", watcher=Interrupter())
    assert not first.is_complete
    second = run(tmp_path, rows, node, run_id="r", resume=True)

    assert second.texts == rows
    assert sorted(row for row, _, outcome, _ in attempts(second) if outcome == "answered") == list(range(30))


def test_changed_options_are_refused_on_resume(tmp_path: Path) -> None:
    """A resume with options that would shape other answers names what changed."""
    run(tmp_path, ["a"], run_id="r")
    with pytest.raises(UsageError, match=r"temperature: 0\.0 -> 0\.5"):
        run(tmp_path, ["a"], run_id="r", resume=True, temperature=0.5)


def test_changed_rows_are_refused_on_resume(tmp_path: Path) -> None:
    """A resume with other rows would answer something else under the old ids."""
    run(tmp_path, ["a"], run_id="r")
    with pytest.raises(UsageError, match="rows changed"):
        run(tmp_path, ["a", "b"], run_id="r", resume=True)


def test_rows_that_do_not_fit_are_found_before_sending(tmp_path: Path) -> None:
    """All rows longer than the context are named together; with bad_rows='fail' they fail alone."""
    node = script(tmp_path, "context = 3\n")
    rows = ["one two", "one two three four", "a b c d e"]
    with pytest.raises(InputFaults) as caught:
        run(tmp_path, rows, node)
    assert len(caught.value.faults) == 2

    assert run(tmp_path, rows, node, bad_rows="fail").failed == {"too_long": 2}


def test_an_unknown_option_is_named() -> None:
    """A misspelt option is an error, not a silent default."""
    with pytest.raises(UsageError, match="temprature"):
        tokenmill.run(["a"], nodes=["scripted:"], temprature=1)


def test_nodes_share_the_work(tmp_path: Path) -> None:
    """Two nodes with one model answer one run."""
    node = script(tmp_path, "slots = 1\nfirst_token = 0.01\n")
    answers = tokenmill.run([f"{n}" for n in range(10)], nodes=[node, node], runs_dir=tmp_path / "runs")

    assert answers.texts == [f"{n}" for n in range(10)]
    assert answers.certificate is not None


def test_a_straggler_is_hedged(tmp_path: Path) -> None:
    """A row that hangs on one node is answered by another; the attempt that hung is ended and costs no failure."""
    (tmp_path / "slow").mkdir()
    paces = {tmp_path: 0.002, tmp_path / "slow": 900.0}
    nodes = [script(folder, f"slots = 1\nfirst_token = {pace}\n") for folder, pace in paces.items()]
    answers = tokenmill.run([f"row {n}" for n in range(60)], nodes=nodes, runs_dir=tmp_path / "runs")
    assert answers.texts == [f"row {n}" for n in range(60)]
    assert [(outcome, kind) for _, _, outcome, kind in attempts(answers) if outcome != "answered"] == [
        ("cancelled", "hedge")
    ]

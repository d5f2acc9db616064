"""Random schedules of faults: five hundred here, ten thousand in `benchmarks/schedules.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from tokenmill.event import SetAside
from tokenmill.schedule.ordeal import broken_promises, draw, play

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "schedules.py"


@pytest.mark.parametrize("first", range(0, 500, 50))
def test_random_faults_break_no_promise(first: int) -> None:
    """Rows end once and fairly, retries keep within their budget, nothing piles up, and what can end does."""
    broken = {seed: faults for seed in range(first, first + 50) if (faults := _judged(seed, merciful=False))}

    assert broken == {}


@pytest.mark.parametrize("seed", [5255, 8222])
def test_rare_faults_break_no_promise(seed: int) -> None:
    """What happens once in thousands: wake-ups of many at one moment, and rows whose second attempt failed first."""
    assert _judged(seed, merciful=False) == []


@pytest.mark.parametrize("first", range(0, 100, 50))
def test_all_rows_end_when_one_node_is_well_at_last(first: int) -> None:
    """However long all nodes were away, every row has a final word within a bound after their return."""
    broken = {seed: faults for seed in range(first, first + 50) if (faults := _judged(seed, merciful=True))}

    assert broken == {}


def _judged(seed: int, *, merciful: bool) -> list[str]:
    ordeal = draw(seed, merciful=merciful)
    return broken_promises(ordeal, play(ordeal))


def test_a_seed_replays_to_the_same_events() -> None:
    """Every event and action of a schedule is the same again, in another process with other hashes."""
    shown = set()
    for hashes in ("1", "2"):
        command = [sys.executable, str(SCRIPT), "--seed", "11"]
        env = {**os.environ, "PYTHONHASHSEED": hashes}
        shown.add(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)

    [text] = shown
    assert text.count(" -> ") > 100
    assert text.endswith("every promise was kept\n")


def test_schedules_meet_every_kind_of_fault() -> None:
    """Among the schedules drawn there are all failure classes of nodes, crashes, late answers, losses and stops."""
    kinds: Counter[str] = Counter()
    for seed in range(150):
        result = play(draw(seed))
        kinds.update(attempt.kind or attempt.outcome for attempt in result.attempts)
        kinds.update(note.state for note in result.notes)
        kinds["stopped"] += result.stopped is not None
        kinds["unfinished"] += result.unfinished > 0

    expected = {"answered", "crash", "transient", "timeout", "busy", "unreachable", "misconfigured"}
    expected |= {"cooling", "offline", "warming", "stopped", "unfinished"}
    assert {kind for kind in expected if kinds[kind] < 3} == set()


def test_broken_promises_are_found() -> None:
    """A lost row, a second answer, an unfair end and too many retries are each told."""
    ordeal = draw(3, merciful=True)
    result = play(ordeal)
    assert broken_promises(ordeal, result) == []
    answer = next(attempt for attempt in result.attempts if attempt.outcome == "answered")
    failure = replace(answer, outcome="failed", kind="transient")

    lost = replace(result, unfinished=1)
    twice = replace(result, attempts=[*result.attempts, answer])
    unfair = replace(result, set_aside={answer.row: SetAside(answer.row, "busy", "too many requests")})
    storm = [replace(failure, row=99, lease=lease, dispatched=0.0, finished=0.0) for lease in range(500)]
    hasty = replace(result, attempts=storm)

    found = [broken_promises(ordeal, each) for each in (lost, twice, unfair, hasty)]
    words = ["no final word", "more than one final word", "paid for its node", "retries"]
    assert [any(word in fault for fault in faults) for word, faults in zip(words, found, strict=True)] == [True] * 4

"""The batching suite: five pipelines that do the same work, each called what the engine did and not its name."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from tokenmill.bench.as_html import html
from tokenmill.bench.as_json import report_of
from tokenmill.bench.batching import CONTINUOUS, LOCKED, LOOP, ONE_BY_ONE, SUITE, BatchingOptions
from tokenmill.bench.batching import STATIC as PADDED
from tokenmill.bench.cell import Reading
from tokenmill.bench.folder import SweepFolder
from tokenmill.bench.instructions import instructions, words
from tokenmill.bench.padded import PaddedBatch
from tokenmill.bench.pipelines import Blocking, Ledger, Looping, in_groups, in_threads, one_by_one
from tokenmill.bench.sweep import Results, carry_on, results_of
from tokenmill.bench.table import rows_of
from tokenmill.bench.untrained import SHAPES, make_model
from tokenmill.cli.bench_table import show
from tokenmill.clock import MonotonicClock
from tokenmill.cluster import EngineOptions, Node
from tokenmill.engine.local.folder import ModelFolder
from tokenmill.engine.local.session import load_session
from tokenmill.engine.local.settings import Plan, make_plan
from tokenmill.errors import UsageError
from tokenmill.event import Attempt
from tokenmill.report.audit import AS_ASKED, SEQUENTIAL, TRUE_BATCH
from tokenmill.request import Request, Sampling

WIDTH = 4
REQUESTS = instructions(10, 12)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_model(folder, SHAPES["tiny"], words())
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """One real sweep: each cell once, in a process of its own."""
    options = BatchingOptions(shape="tiny", batch=str(WIDTH), prompts=10, max_tokens=12)
    folder = SweepFolder.create(
        tmp_path_factory.mktemp("sweeps"), "batching", msgspec.to_builtins(options), repeats=1, seed=0, targets=()
    )
    assert carry_on(folder, lambda _: None)
    return results_of(folder)


def plan_for(target: Path | str, context: int = 192) -> Plan:
    chosen = EngineOptions(slots=WIDTH, threads=1, dtype="fp32", context=context)
    return make_plan(Node(name="here", engine="local", target=str(target)), chosen)


def blocking(target: Path | str, context: int = 192) -> Blocking:
    return Blocking(load_session(plan_for(target, context).load), Ledger(MonotonicClock()))


def padded(target: Path | str) -> tuple[PaddedBatch, Ledger]:
    plan, ledger = plan_for(target), Ledger(MonotonicClock())
    return PaddedBatch(plan.folder, plan.load, ledger), ledger


def by_pipeline(results: Results) -> dict[str, Reading]:
    named = {cell.key: str(cell.factors["Pipeline"]) for cell in (row.cell for row in results.rows)}
    return {named[each.cell]: each for each in results.readings}


def test_all_pipelines_write_the_same_answers(results: Results) -> None:
    """Five pipelines answer everything, and each answer is the same in all of them."""
    read = by_pipeline(results)

    assert set(read) == {ONE_BY_ONE, LOOP, LOCKED, PADDED, CONTINUOUS}
    assert [each.fault for each in read.values()] == [""] * 5
    assert {each.answered for each in read.values()} == {10}
    assert len({each.digest for each in read.values()}) == 1
    assert len({each.output_tokens for each in read.values()}) == 1
    assert any("all 5 pipelines gave the same answers" in said for said in results.findings)


def test_the_loop_and_the_lock_are_sequential_in_disguise(results: Results) -> None:
    """What runs one at a time though more was asked for is named so, with widths and overlap as evidence."""
    read = by_pipeline(results)

    for pipeline in (LOOP, LOCKED):
        assert read[pipeline].audit == SEQUENTIAL
        assert read[pipeline].reason == (
            "4 at a time were asked for and work was waiting; overlap 1.00, mean batch width 1.00"
        )
        (said,) = [each for each in results.findings if each.startswith(pipeline)]
        assert "asked for 4 at a time, one ran (overlap 1.00, mean batch width 1.00)" in said
    assert read[ONE_BY_ONE].audit == AS_ASKED


def test_padded_and_continuous_batches_are_batches(results: Results) -> None:
    """A padded batch is a true batch that throws work away; so is a continuous one, which doesn't."""
    read = by_pipeline(results)

    assert read[PADDED].audit == read[CONTINUOUS].audit == TRUE_BATCH
    assert read[PADDED].extra["wasted"] > 0.1
    assert "wasted" not in read[CONTINUOUS].extra
    assert "share of the computed places that were padding" in html(report_of(results))


def test_loading_is_kept_apart(results: Results) -> None:
    """Each pipeline loads the model itself, and that time is its own column."""
    assert all(each.loading > 0 for each in results.readings)


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_has_its_own_headings(results: Results, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns are those of the comparison this suite corrects, at any width of the terminal."""
    monkeypatch.setenv("COLUMNS", str(width))
    lines = list(show(results, ()))

    head = " ".join(" ".join(line.split()) for line in lines[2:6])
    for word in ("Pipeline", "Success", "Total", "Average", "Init", "Speedup"):
        assert word in head
    assert max(map(len, lines[2:12])) <= width


def test_padding_changes_no_answer(tiny: Path) -> None:
    """A padded batch writes what each request gets alone, also in a last group that isn't full."""
    alone, (batch, _) = blocking(tiny), padded(tiny)

    assert in_groups(batch, REQUESTS, WIDTH) == one_by_one(alone, REQUESTS)


def test_answers_that_end_early_end_where_they_do_alone() -> None:
    """A sequence that is kept past its end token gets no more text for it."""
    requests = [
        Request(row=row, custom_id=str(row), prompt=prompt, sampling=Sampling(max_tokens=40))
        for row, prompt in enumerate(["Hi", "What is the capital of France?", "Tell me about the sea, please.", "Why?"])
    ]
    alone, (batch, ledger) = blocking("demo"), padded("demo")

    assert in_groups(batch, requests, WIDTH) == one_by_one(alone, requests)
    assert [each.output_tokens for each in sorted(ledger.attempts, key=lambda attempt: attempt.row)] == [
        each.output_tokens for each in alone.ledger.attempts
    ]
    assert len({each.output_tokens for each in ledger.attempts}) > 1


def test_waste_is_what_was_computed_for_nothing(tiny: Path) -> None:
    """Padding of prompts and passes after an answer's end are counted, and nothing else is."""
    short, long = sorted(REQUESTS, key=lambda request: len((request.prompt or "").split()))[:: len(REQUESTS) - 1]
    group = [with_limit(short, 2), with_limit(long, 6)]
    lengths = [len((request.prompt or "").split()) for request in group]
    batch, _ = padded(tiny)

    batch.generate(group)

    assert batch.computed == 2 * (lengths[1] - 1) + 2 * 6
    assert batch.computed - batch.used == (lengths[1] - lengths[0]) + (6 - 2)


def test_threads_behind_a_lock_take_turns(tiny: Path) -> None:
    """As many requests as threads are in the pipeline's hands, and no two are generated at the same time."""
    model = blocking(tiny)
    in_threads(model, REQUESTS, WIDTH)

    attempts = sorted(model.ledger.attempts, key=lambda attempt: attempt.finished)
    assert len(attempts) == len(REQUESTS)
    assert {attempt.width_max for attempt in attempts} == {1}
    for before, after in itertools.pairwise(attempts):
        assert after.first_token is not None
        assert before.finished <= after.first_token
    in_hand = [sum(other.dispatched <= each.dispatched < other.finished for other in attempts) for each in attempts]
    assert max(in_hand) == WIDTH


def test_a_list_function_that_loops_is_handed_the_whole_group(tiny: Path) -> None:
    """All requests of a group count as dispatched when the function is called, and are answered one after the other."""
    model = blocking(tiny)
    in_groups(Looping(model), REQUESTS, WIDTH)

    attempts = sorted(model.ledger.attempts, key=lambda attempt: attempt.row)
    assert [len({each.dispatched for each in group}) for group in groups(attempts)] == [1, 1, 1]
    assert len({each.finished for each in attempts}) == len(attempts)


def test_a_refused_request_is_a_failure_of_its_own(tiny: Path) -> None:
    """A prompt that is too long fails by its class, and the rest is answered."""
    model = blocking(tiny, context=96)
    endless = msgspec.structs.replace(REQUESTS[1], prompt="fly to the bridge " * 30)
    answers = one_by_one(model, [REQUESTS[0], endless, REQUESTS[2]])

    assert model.ledger.failed == {"too_long": 1}
    assert [bool(answer) for answer in answers] == [True, False, True]
    assert [attempt.outcome for attempt in model.ledger.attempts] == ["answered", "failed", "answered"]


def test_a_word_is_a_token(tiny: Path) -> None:
    """The tokenizer made for the prompts reads each of their words as one token."""
    folder = ModelFolder(tiny)

    for request in instructions(50, 20):
        prompt = request.prompt or ""
        assert len(folder.encode_request(request)) == len(prompt.split())
        assert set(prompt.split()) <= words()


def test_requests_are_ragged_and_always_the_same() -> None:
    """Lengths differ, the longest answer is the one asked for, and a second call gives the same requests."""
    made = instructions(16, 24)
    limits = [request.sampling.max_tokens or 0 for request in made]

    assert made == instructions(16, 24)
    assert max(limits) == 24
    assert sum(limit < 14 for limit in limits) > 8
    assert len({len((request.prompt or "").split()) for request in made}) > 1
    assert [request.sampling.max_tokens for request in instructions(1, 5)] == [5]


def test_differing_answers_are_said() -> None:
    """Pipelines whose answers differ from the baseline's are named, as their times compare other work."""
    cells = SUITE.cells(BatchingOptions())
    readings = [
        Reading(cell=cell.key, repeat=0, seconds=1.0, requests=2, answered=2, output_tokens=8, digest=digest, width=1.0)
        for cell, digest in zip(cells, "aabaa", strict=True)
    ]
    said = SUITE.findings(BatchingOptions(), rows_of(cells, readings, SUITE.unit))

    assert said[0].startswith("answers differ from those of one by one, 1 at a time: threads behind one lock")


def test_a_width_of_one_is_no_batch() -> None:
    """One at a time is the baseline, so it is refused as a width."""
    with pytest.raises(UsageError, match="--batch 1 is no batch"):
        SUITE.cells(BatchingOptions(batch="1,8"))


def test_answers_that_cannot_fit_are_refused_before_anything_runs(tmp_path: Path) -> None:
    """Prompt and answer beyond the model's context are a usage error that names the most that fits."""
    options = BatchingOptions(shape="tiny", max_tokens=512)

    with pytest.raises(UsageError, match=r"--max-tokens 512: .* takes 512; give at most \d+"):
        SUITE.prepare(options, tmp_path / "sweep")


def test_each_width_is_a_cell_of_each_batch() -> None:
    """Two widths give every pipeline but the baseline twice."""
    cells = SUITE.cells(BatchingOptions(batch="4,8"))

    assert [cell.workers for cell in cells] == [1, 4, 4, 4, 4, 8, 8, 8, 8]
    assert [cell.is_baseline for cell in cells].count(True) == 1


def with_limit(request: Request, limit: int) -> Request:
    return msgspec.structs.replace(request, sampling=Sampling(max_tokens=limit))


def groups(attempts: Sequence[Attempt]) -> list[Sequence[Attempt]]:
    return [attempts[first : first + WIDTH] for first in range(0, len(attempts), WIDTH)]

"""What a sweep of parallel ways shows, from readings written by hand: void rows, claims, scaling and crossovers."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from msgspec.structs import replace

from tokenmill.bench.as_html import html
from tokenmill.bench.as_json import report_of
from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.columns import figures_of
from tokenmill.bench.folder import Plan
from tokenmill.bench.parallel import SUITE, ParallelOptions
from tokenmill.bench.parallel_crossover import find_crossover
from tokenmill.bench.parallel_used import WHOLE_POWER
from tokenmill.bench.parallel_ways import ONE_THREAD, SINGLE
from tokenmill.bench.sweep import Results
from tokenmill.bench.table import Row, rows_of
from tokenmill.cli.bench_table import show
from tokenmill.errors import UsageError

#: What a repeat takes beyond the usual, as a share.
JITTER = (0.0, 0.01, -0.01, 0.02, -0.02)
ANSWERS = {"text-1": "aa", "text-2": "bb", "text-3": "cc"}


def planted(seconds: Mapping[str, float], options: ParallelOptions) -> list[Row]:
    """Rows of five repeats in which each way takes so long; ways that aren't named are faults."""
    return rows_of(*SUITE.judged(options, SUITE.cells(options), readings_of(seconds, options)), SUITE.unit)


def readings_of(seconds: Mapping[str, float], options: ParallelOptions) -> list[Reading]:
    return [
        reading(cell, repeat, seconds.get(f"{cell.group}: {cell.title}", seconds.get(cell.title)), jitter)
        for cell in SUITE.cells(options)
        for repeat, jitter in enumerate(JITTER)
    ]


def reading(cell: Cell, repeat: int, seconds: float | None, jitter: float = 0.0) -> Reading:
    if seconds is None:
        return Reading(cell=cell.key, repeat=repeat, fault="it can't be had here")
    # Neighbouring cells of a repeat jitter differently, or intervals would have no width.
    took = seconds * (1 + jitter * (1 + len(cell.title) % 3))
    return Reading(
        cell=cell.key,
        repeat=repeat,
        seconds=took,
        requests=3,
        answered=3,
        output_tokens=300,
        digest="d",
        answers=ANSWERS,
        latencies=(took,) * 3,
        missing={"power": "no counter is there", "joules": "no counter is there"},
        extra={"texts_per_second": 3 / took, "words_per_second": 200 / took, "at_work": 1.0, "worker_memory": 2.0**20},
    )


def two(**more: object) -> ParallelOptions:
    """Two cores, baseline, dp and tp with two ranks."""
    return ParallelOptions(**{"found": 2, "modes": "baseline,dp,tp", "workers": "2", "limit": "8"} | more)  # type: ignore[arg-type]


def test_every_way_is_held_against_one_process_with_all_cores() -> None:
    """The baseline has all cores; one thread alone is a row of its own and no baseline."""
    cells = SUITE.cells(ParallelOptions(found=2, modes="baseline,dp,tp", workers="1,2,4"))

    assert [cell.title for cell in cells] == [
        *(SINGLE, ONE_THREAD, "dp, 1 rank", "dp, 2 ranks", "dp, 4 ranks", "tp, 2 ranks", "tp, 4 ranks")
    ]
    assert [cell.title for cell in cells if cell.is_baseline] == [SINGLE]
    assert [cell.workers for cell in cells] == [2, 1, 2, 2, 2, 2, 2]


def test_on_gpus_each_rank_is_a_gpu() -> None:
    """Efficiency is counted in GPUs there, and no row is about threads."""
    cells = SUITE.cells(two(device="cuda", kv_memory=4.0, workers="2,4"))

    assert [cell.workers for cell in cells] == [1, 2, 4, 2, 4]
    assert ONE_THREAD not in [cell.title for cell in cells]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "all ways share 2 cores, with up to 32 requests in flight in all; one process has everything"),
        ({"device": "cuda", "kv_memory": 4.0}, "one process has one GPU, and N ranks of dp, tp or deepspeed have N"),
    ],
)
def test_what_each_way_has_comes_first(more: dict[str, object], said: str) -> None:
    """Cores are divided, so every way has the same; GPUs aren't, so more ranks have more."""
    first = SUITE.findings(two(**more), planted({SINGLE: 1.0, "dp, 2 ranks": 1.0}, two(**more)))[0]

    assert said in first
    assert ("share" in first) == (not more)


def test_figures_of_power_say_what_they_are_of() -> None:
    """Once for all rows; rows that count other parts of the machine are named, as they can't be compared."""
    options = two()
    parts = {"dp, 2 ranks": "GPU 0 (T), GPU 1 (T); left out: package-0: it can't be read"}
    same = [_powered(row, parts["dp, 2 ranks"]) for row in planted({SINGLE: 1.0, "dp, 2 ranks": 1.0}, options)]
    unlike = [_powered(row, parts.get(row.cell.title, "GPU 0 (T)")) for row in same]

    assert [each for each in SUITE.findings(options, same) if "J/token" in each] == [
        "power, energy and J/token are those of GPU 0 (T), GPU 1 (T); left out: package-0: it can't be read"
    ]
    said = [each for each in SUITE.findings(options, unlike) if "J/token" in each]
    assert len(said) == 2
    assert any("of 8 texts: dp, 2 ranks, not to be compared with those of other rows, are those of" in s for s in said)
    assert not any("J/token" in each for each in SUITE.findings(options, planted({SINGLE: 1.0}, options)))


def _powered(row: Row, parts: str) -> Row:
    return replace(row, extra=row.extra | {"power": 100.0, "joules": 50.0}, missing={WHOLE_POWER: parts})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"modes": "baseline,pp"}, "--modes: 'pp' is unknown"),
        ({"modes": "baseline"}, "nothing to compare one process with"),
        ({"modes": "tp", "workers": "1"}, "tp and deepspeed need 2 or more"),
        ({"workers": "0"}, "--workers: '0' is no whole number from 1"),
        ({"limit": "x"}, "--limit: 'x' is no whole number from 1"),
    ],
)
def test_what_compares_nothing_is_refused(more: dict[str, str], said: str) -> None:
    """Unknown modes and empty comparisons are usage errors."""
    with pytest.raises(UsageError, match=said):
        SUITE.cells(two(**more))


def test_an_answer_that_differs_makes_its_reading_void() -> None:
    """The fault names the first request, in the order of the input, whose answer isn't the baseline's."""
    options = two()
    base, thread, dp, tp = SUITE.cells(options)
    wrong = ANSWERS | {"text-2": "xx", "text-3": "yy"}
    readings = [reading(each, 0, 1.0) for each in (base, thread, dp)]
    readings.append(replace(reading(tp, 0, 1.0), answers=wrong))

    cells, (*kept, void) = SUITE.judged(options, SUITE.cells(options), readings)

    assert not any(each.fault for each in kept)
    assert void.fault == (
        "void: its greedy answers aren't those of one process; 'text-2' is the first that differs, 2 of 3 do"
    )
    (row,) = [each for each in rows_of(cells, [*kept, void], "core") if each.cell == tp]
    assert row.seconds.value is None
    assert row.speedup is not None
    assert row.speedup.value is None


def test_in_bf16_nothing_is_void() -> None:
    """There the width of a batch may change tokens, so readings that differ are kept."""
    options = two(dtype="bf16")
    base, _, dp, _ = SUITE.cells(options)
    other = Reading(cell=dp.key, repeat=0, seconds=1.0, requests=3, answered=3, answers={"text-1": "zz"})

    assert SUITE.judged(options, SUITE.cells(options), [reading(base, 0, 1.0), other])[1][1] == other


def test_claims_are_against_the_best_single_process() -> None:
    """Where one thread is shown to be faster than all cores, that is what others must beat."""
    seconds = {SINGLE: 4.0, ONE_THREAD: 2.0, "dp, 2 ranks": 3.0, "tp, 2 ranks": 8.0}
    rows = planted(seconds, two())
    said = SUITE.findings(two(), rows)

    assert [row.cell.title for row in rows if row.cell.is_baseline] == [ONE_THREAD]
    assert "8 texts: one thread is shown to be faster than all cores, so it is what others are held against" in said
    (dp,) = [each for each in said if each.startswith("8 texts: dp, 2 ranks: ") and "against" in each]
    assert "% slower" in dp
    assert dp.endswith(f"against {ONE_THREAD}")
    assert any("parallelism does not pay here" in each for each in said)


def test_what_is_faster_is_claimed_against_all_cores() -> None:
    """With a baseline that is the best single process the claim is the row's own."""
    seconds = {SINGLE: 4.0, ONE_THREAD: 7.0, "dp, 2 ranks": 2.5, "tp, 2 ranks": 8.0}
    said = SUITE.findings(two(), planted(seconds, two()))

    assert any(each.startswith("8 texts: dp, 2 ranks: ") and "% faster" in each for each in said)
    assert not any("does not pay" in each for each in said)
    assert any("4 ways wrote the same answers in each of 5 repeats" in each for each in said)


def test_karp_and_flatt_count_from_one_thread() -> None:
    """dp 2 on two cores, twice as fast as one core but for a tenth: e = (1/1.8 - 1/2) / (1/2)."""
    seconds = {SINGLE: 4.0, ONE_THREAD: 7.2, "dp, 2 ranks": 4.0, "tp, 2 ranks": 8.0}
    said = SUITE.findings(two(), planted(seconds, two()))

    (found,) = [each for each in said if "Karp and Flatt" in each]
    assert found.startswith("8 texts: dp, 2 ranks, on 2 cores: 1.8")
    assert f"times the speed of {ONE_THREAD} on 1" in found
    assert "efficiency 9" in found
    assert "serial fraction (Karp and Flatt) 0.11" in found or "serial fraction (Karp and Flatt) 0.10" in found


def test_workers_that_take_turns_are_named() -> None:
    """Of two dp workers, one was at work at a time: parallel in name only."""
    seconds = {SINGLE: 4.0, ONE_THREAD: 7.0, "dp, 2 ranks": 4.0, "tp, 2 ranks": 8.0}
    said = SUITE.findings(two(), planted(seconds, two()))

    assert "8 texts: dp, 2 ranks: parallel in name only, 1.00 workers generated at the same time" in said


def test_without_a_baseline_nothing_is_said_of_the_others() -> None:
    """Ways can't be judged if one process answered nothing whole."""
    said = SUITE.findings(two(), planted({"dp, 2 ranks": 1.0}, two()))

    assert any("so nothing can be said of the other ways" in each for each in said)
    assert not any("dp, 2 ranks:" in each for each in said)


def test_a_crossover_is_found_between_two_sizes() -> None:
    """tp is faster on 8 texts and dp on 128: somewhere in between, by the intervals, near where they are equal."""
    options = two(limit="8,32,128")
    seconds = {SINGLE: 4.0, ONE_THREAD: 7.0}
    seconds |= {f"{size} texts: tp, 2 ranks": 4.0 for size in (8, 32, 128)}
    seconds |= {"8 texts: dp, 2 ranks": 8.0, "32 texts: dp, 2 ranks": 4.0, "128 texts: dp, 2 ranks": 2.0}

    said = SUITE.findings(options, planted(seconds, options))[-1]

    assert said.startswith("crossover of tp and dp with 2: found at about 3")
    assert said.endswith("texts (95 % interval 8 to 128): up to 8 tp is faster, from 128 on dp")


@pytest.mark.parametrize(
    ("small", "large", "reason"),
    [
        (2.0, 2.0, "dp is faster at 8, 128 texts"),
        (8.0, 8.0, "tp is faster at 8, 128 texts"),
        (4.0, 4.0, "at no size is either shown to be faster (8 to 128 texts)"),
        (4.0, 2.0, "dp is faster at 128 texts; 8 texts don't decide"),
    ],
)
def test_what_does_not_cross_is_not_found(small: float, large: float, reason: str) -> None:
    """Without one way shown faster at one size and the other at another, there is no crossover."""
    options = two(limit="8,128")
    seconds = {SINGLE: 4.0, ONE_THREAD: 7.0, "tp, 2 ranks": 4.0}
    seconds |= {"8 texts: dp, 2 ranks": small, "128 texts: dp, 2 ranks": large}

    said = SUITE.findings(options, planted(seconds, options))[-1]

    assert said == f"crossover of tp and dp with 2, 8 to 128 texts: not found, {reason}"


def test_too_few_repeats_or_sizes_find_no_crossover() -> None:
    """Four pairs claim nothing, and one size can't show a change."""
    fast, slow = {repeat: 2.0 + repeat / 100 for repeat in range(4)}, dict.fromkeys(range(4), 1.0)

    assert "a claim needs 5 pairs" in find_crossover({8: fast, 32: slow}, {8: slow, 32: fast}).reason
    assert "only 8 texts were measured with both" in find_crossover({8: fast}, {8: slow}).reason


def test_the_faster_one_may_change_twice() -> None:
    """Then no single crossover is told."""
    fast = {repeat: 2.0 + repeat / 100 for repeat in range(5)}
    slow = dict.fromkeys(range(5), 1.0)

    found = find_crossover({8: fast, 32: slow, 128: fast}, {8: slow, 32: fast, 128: slow})

    assert found.low is None
    assert found.reason == "the faster one changes more than once, between 8 and 32, 32 and 128 texts"


def test_a_way_that_cannot_be_had_is_a_row_with_the_reason(results: Results) -> None:
    """Its figures are n/a and the reason is told below the table; so is why power is missing."""
    text = "\n".join(show(results, ()))

    assert "tp, 2 ranks: it can't be had here" in text
    assert "power, energy n/a: no counter is there" in text
    figures = figures_of(next(row for row in results.rows if row.cell.title == "dp, 2 ranks"))
    assert figures["texts_per_second"].value == pytest.approx(1.5, rel=0.1)
    assert figures["power"].value is None
    assert results.findings[-1] == "crossover of tp and dp with 2: not found, tp could not be measured"


def test_the_page_draws_throughput(results: Results) -> None:
    """Over sizes of the data, if there are several."""
    page = html(report_of(results))

    assert "Throughput over the size of the data" in page
    assert "it can&#39;t be had here" in page


@pytest.fixture
def results() -> Results:
    """A sweep in which tp can't be had."""
    options = two(limit="8,32")
    seconds = {SINGLE: 4.0, ONE_THREAD: 7.0, "dp, 2 ranks": 2.0}
    readings = readings_of(seconds, options)
    rows = rows_of(SUITE.cells(options), readings, SUITE.unit)
    plan = Plan(
        sweep="parallel-x",
        suite="parallel",
        options=msgspec.to_builtins(options),
        repeats=5,
        seed=0,
        targets=(),
        created="2026-01-01T00:00:00+0000",
        machine={"processor": "p", "cores": "2"},
        versions={},
    )
    return Results(
        plan=plan,
        unit=SUITE.unit,
        complete=True,
        readings=tuple(readings),
        rows=tuple(rows),
        laws=(),
        findings=tuple(SUITE.findings(options, rows)),
    )

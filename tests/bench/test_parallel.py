"""The parallel suite on real ranks: readings are runs through the launcher, whose texts wait for every worker."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
import pytest
from msgspec.structs import replace

from requirements import deepspeed_place, require
from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.child import Order
from tokenmill.bench.columns import DEFINITIONS, meaning_of
from tokenmill.bench.folder import SweepFolder
from tokenmill.bench.parallel import SUITE, ParallelOptions
from tokenmill.bench.parallel_run import Gate, at_work, row_of
from tokenmill.bench.parallel_used import WHOLE_POWER, used_of
from tokenmill.bench.sweep import Results, carry_on, results_of
from tokenmill.bench.table import Row
from tokenmill.driver.progress import Progress
from tokenmill.errors import UsageError
from tokenmill.event import Attempt
from tokenmill.footprint import Curve, EnergyUse, Footprint, GpuUse, ProcessUse
from tokenmill.request import Message, Request, Sampling

TEXTS = 4
#: Of an answer: many, so that one which is a few steps late is still in the same batches as the others.
TOKENS = 200
#: Three ranks are more than these cores, whatever machine this is.
CORES = 2


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """One real sweep: one process, two workers, two ranks of one model, and ways that can't be had."""
    many = str(os.cpu_count() or 1) + "0"
    options = ParallelOptions(shape="tiny", workers=f"2,{many}", limit=str(TEXTS), max_tokens=TOKENS, found=CORES)
    options = SUITE.settled(options, tmp_path_factory.mktemp("where"))
    folder = SweepFolder.create(
        tmp_path_factory.mktemp("sweeps"), "parallel", msgspec.to_builtins(options), repeats=1, seed=0, targets=()
    )
    assert carry_on(folder, lambda _: None)
    return results_of(folder)


def row_named(results: Results, title: str) -> Row:
    return next(row for row in results.rows if row.cell.title == title)


@pytest.mark.slow
def test_workers_and_ranks_answer_as_one_process_does(results: Results) -> None:
    """Two workers, and two ranks that share one model, write the tokens of one process, every one of them."""
    whole = [row for row in results.rows if row.seconds.value is not None]

    assert {row.cell.title for row in whole} >= {"one process", "dp, 2 ranks", "tp, 2 ranks"}
    assert {row.digests for row in whole} == {whole[0].digests}
    read = [each for each in results.readings if each.is_whole]
    assert {len(each.answers) for each in read} == {TEXTS}
    assert {each.output_tokens for each in read} == {TOKENS * TEXTS}


@pytest.mark.slow
def test_all_texts_are_answered_at_once_by_all_workers(results: Results) -> None:
    """The texts wait for the last worker: each of two has half of them in its batches, and both are at work."""
    assert row_named(results, "one process").width.value == pytest.approx(TEXTS, abs=1)
    assert row_named(results, "dp, 2 ranks").width.value == pytest.approx(TEXTS / 2, abs=0.5)
    assert row_named(results, "tp, 2 ranks").width.value == pytest.approx(TEXTS, abs=1)
    assert row_named(results, "tp, 2 ranks").extra["at_work"] == 1.0


@pytest.mark.slow
def test_each_process_is_in_the_memory(results: Results) -> None:
    """The driver and every rank have a peak of their own, none hides another's."""
    peaks = {each.cell: each.peak_rss for each in results.readings if each.is_whole}

    assert len(peaks[row_named(results, "one process").cell.key]) == 2
    assert len(peaks[row_named(results, "dp, 2 ranks").cell.key]) == 3
    assert len(peaks[row_named(results, "tp, 2 ranks").cell.key]) == 3


@pytest.mark.slow
def test_ways_that_cannot_be_had_say_why(results: Results) -> None:
    """More ranks than cores, heads that don't divide and DeepSpeed on a GPT-2 are rows with the reason."""
    faults = {row.cell.title: " ".join(row.faults) for row in results.rows if row.faults}

    (many,) = {title.split()[1] for title in faults if title.startswith("dp")}
    assert f"{many} ranks x 1 threads are {many}, and" in faults[f"dp, {many} ranks"]
    assert "add --force" in faults[f"dp, {many} ranks"]
    assert faults[f"tp, {many} ranks"]
    assert "AutoTP doesn't support it" in faults["deepspeed, 2 ranks"]
    assert results.complete


def test_heads_that_do_not_divide_are_a_fault_and_start_nothing(tmp_path: Path) -> None:
    """Two heads can't be shared by three ranks, even where more ranks than cores are allowed."""
    reading = measured(tmp_path, "tp", 3, force=True)

    assert "2" in reading.fault
    assert "3" in reading.fault
    assert "head" in reading.fault


@pytest.mark.slow
def test_deepspeed_divides_a_llama(tmp_path: Path) -> None:
    """Where it is installed, its ranks write the tokens of one process."""
    require("deepspeed")
    one = measured(tmp_path, "one process", 1, shape="llama-tiny")
    two = measured(tmp_path, "deepspeed", 2, shape="llama-tiny", force=True)

    assert two.fault == ""
    assert two.answers == one.answers


@pytest.mark.slow
def test_a_sweep_that_is_killed_leaves_no_rank(tmp_path: Path) -> None:
    """Whatever the sweep's end, the processes that its launcher started end too."""
    words = ["parallel", "--shape", "tiny", "--modes", "dp", "--workers", "2", "--limit", "64", "--discard", "0"]
    line = [sys.executable, "-m", "tokenmill", "bench", *words, "--force", "--bench-dir", str(tmp_path), "--quiet"]
    with subprocess.Popen(line, stdin=subprocess.DEVNULL) as sweep:
        try:
            ranks = wait_for_ranks(sweep)
        finally:
            sweep.kill()
    _, alive = psutil.wait_procs(ranks, timeout=30)

    assert [each.pid for each in alive] == []


def wait_for_ranks(sweep: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Two ranks below the sweep, as soon as they are there: before they can have noticed who started them."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and sweep.poll() is None:
        found = []
        for each in psutil.Process(sweep.pid).children(recursive=True):
            with suppress(psutil.Error):
                found += [each] if "tokenmill.launch.rank" in each.cmdline() else []
        if len(found) == 2:
            return found
        time.sleep(0.05)
    raise AssertionError("no ranks were started")


def measured(where: Path, mode: str, ranks: int, **more: object) -> Reading:
    """One reading in a process of its own, as a sweep takes it."""
    options = ParallelOptions(
        **{"shape": "tiny", "workers": str(ranks), "limit": "3", "max_tokens": 6, "found": CORES} | more  # type: ignore[arg-type]
    )
    folder = where / "sweep"
    folder.mkdir(exist_ok=True)
    SUITE.prepare(options, folder)
    cell = next(each for each in all_cells(options) if each.factors["mode"] == mode)
    order = Order(suite="parallel", options=msgspec.to_builtins(options), cell=cell, folder=str(folder))
    paths = [str(deepspeed_place()), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.Popen(
        [sys.executable, "-m", "tokenmill.bench.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,
    )
    assert done.stdin is not None
    assert done.stdout is not None
    with done.stdin, done.stdout:
        done.stdin.write(msgspec.json.encode(order) + b"\n")
        done.stdin.flush()
        said = done.stdout.read()
        done.wait()
    return msgspec.json.decode(said, type=Reading)


def all_cells(options: ParallelOptions) -> Iterator[Cell]:
    """Those of a sweep with any number of ranks, one included."""
    yield from SUITE.cells(msgspec.structs.replace(options, workers="2" if options.workers == "1" else options.workers))


def test_texts_wait_until_every_worker_is_up_and_warm() -> None:
    """One request at a time while a worker is missing; then as many as will be in flight; then all texts, once."""
    texts = [Request(row=row, custom_id=f"text-{row}", prompt="Hello") for row in range(3)]
    gate, number = Gate(2, 2, texts), 0

    def end_of_one() -> list[str]:
        nonlocal number
        given = gate.follow(Request(row=number, custom_id=f"bench-warm-up-{number}", prompt=""), "")
        number += 1
        return [row["custom_id"] for row in given]

    gate.begin()
    gate.watch(Progress(rows=1, up=1), 0.0)
    assert end_of_one() == ["bench-warm-up-1"]
    assert end_of_one() == ["bench-warm-up-2"]
    gate.watch(Progress(rows=1, up=2), 0.0)
    assert end_of_one() == [f"bench-warm-up-{each}" for each in (3, 4, 5, 6)]
    assert [end_of_one() for _ in range(3)] == [[], [], []]
    assert gate.fault
    assert end_of_one() == ["text-0", "text-1", "text-2"]
    assert gate.fault == ""
    assert gate.first_text == 7
    assert gate.follow(texts[0], "Hi") == []


def test_a_request_is_given_to_the_run_as_it_was_read() -> None:
    """Messages, limits and stop strings of a row are those of its request."""
    chat = Request(
        row=0,
        custom_id="a",
        messages=(Message("system", "Be brief."), Message("user", "Hi")),
        sampling=Sampling(max_tokens=5, stop=("x",)),
    )

    assert row_of(chat) == {
        "custom_id": "a",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "max_tokens": 5,
        "stop": ("x",),
    }
    assert row_of(Request(row=0, custom_id="b", prompt="Hi")) == {"custom_id": "b", "prompt": "Hi"}


def test_workers_at_work_are_counted_by_time() -> None:
    """Two workers that overlap for half of the time are 1.5; requests of one worker count once."""
    apart = [_attempt(0, 0.0, 1.0), _attempt(1, 1.0, 2.0)]
    beside = [_attempt(0, 0.0, 2.0), _attempt(0, 0.5, 1.0), _attempt(1, 1.0, 2.0)]

    assert at_work(apart) == 1.0
    assert at_work(beside) == 1.5
    assert at_work([]) == 1.0


def _attempt(node: int, start: float, end: float) -> Attempt:
    return Attempt(
        row=0, lease=1, node=node, session=0, outcome="answered", dispatched=start, first_token=start, finished=end
    )


def test_power_and_gpus_are_those_of_the_texts_alone() -> None:
    """Loading before and leaving after count for nothing; several GPUs are told apart."""
    found = used_of(_footprint(gpus=2, watts=(10.0, 100.0, 10.0)), 1.0, 2.0).figures

    assert found["power"] == 100.0
    assert found["joules"] == 100.0
    assert found["gpu_busy"] == 75.0
    assert (found["gpu_busy0"], found["gpu_busy1"]) == (50.0, 100.0)
    assert found["gpu_memory"] == 2000.0
    assert found["worker_memory"] == 70.0
    assert [meaning_of(name) for name in found if name not in DEFINITIONS] == [
        f"{DEFINITIONS[name]}: of device {device} alone" for name in ("gpu_busy", "gpu_memory") for device in (0, 1)
    ]


def test_parts_that_are_not_counted_are_told() -> None:
    """Beside a sum of what can be read stands what it is of, and what is left out for which reason."""
    read = _footprint(gpus=0, watts=(10.0, 100.0, 10.0))
    (counted,) = read.energy
    none = replace(counted, part="package-1", reason="not for this user", power=Curve(unit="W"))
    used = used_of(replace(read, energy=(counted, none)), 1.0, 2.0)

    assert used.figures["power"] == 100.0
    assert used.missing[WHOLE_POWER] == (
        "processor, idle or not and whatever programs used them; left out: GPU: no driver; package-1: not for this "
        "user; the rest of the machine, which nothing counts"
    )


def test_what_no_counter_tells_has_a_reason() -> None:
    """Without energy counters and GPUs the reasons stand in their place, and no zero does."""
    used = used_of(_footprint(gpus=0, watts=()), 1.0, 2.0)

    assert set(used.figures) == {"worker_memory"}
    assert WHOLE_POWER not in used.missing
    assert used.missing["power"] == used.missing["joules"] == used.missing["energy"]
    assert "no counter" in used.missing["power"]
    assert used.missing["gpu_busy"] == used.missing["gpu_memory"] == "no driver"
    assert used.peaks == {"driver": 30, "launched, 1": 50, "launched, 2": 70}


def _footprint(*, gpus: int, watts: tuple[float, ...]) -> Footprint:
    def curve(unit: str, values: tuple[float, ...]) -> Curve:
        return Curve(unit=unit, means=values, maxima=values)

    none = Curve(unit="", reason="no counter")
    processes = [("driver", 30, None), ("launched", 50, None), ("launched", None, 70)]
    return Footprint(
        is_whole=True,
        interval=1.0,
        samples=3,
        spent=0.0,
        lasted=3.0,
        cores=2,
        start=0.0,
        times=(1.0, 2.0, 3.0),
        machine=none,
        load=none,
        processes=tuple(
            ProcessUse(
                name=name, pid=pid, peak_rss=peak, peak_reason="", seen_peak=seen, cpu_seconds=None, cpu=none, rss=none
            )
            for pid, (name, peak, seen) in enumerate(processes)
        ),
        omitted=0,
        gpus=tuple(
            GpuUse(
                name=f"GPU {number}",
                total=None,
                busy=curve("%", (0.0, 50.0 + 50 * number, 0.0)),
                memory=curve("B", (9e9, 1000.0 + 1000 * number, 9e9)),
            )
            for number in range(gpus)
        ),
        no_gpu="" if gpus else "no driver",
        energy=(
            EnergyUse(
                part="processor",
                source="test" if watts else "",
                joules=None,
                reason="" if watts else "no counter",
                step=None,
                power=curve("W", watts) if watts else none,
            ),
        ),
        elsewhere=(),
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"limit": "2501"}, "--limit 2501: texts has 2500 rows"),
        ({"source": "-"}, "standard input can't be"),
        ({"device": "cuda"}, "--device cuda needs --kv-memory"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(
    more: dict[str, str], said: str, tmp_path: Path
) -> None:
    """Too few rows, standard input, and memory that nobody knows are usage errors."""
    with pytest.raises(UsageError, match=said):
        SUITE.settled(ParallelOptions(**more), tmp_path)  # type: ignore[arg-type]

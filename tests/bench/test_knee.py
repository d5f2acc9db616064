"""A load sweep: what a window counts, where the knee is, and the sweep itself on real servers."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from typing import Any

import pytest
from scipy.stats import kendalltau

from tokenmill.bench.arrivals import constant, poisson
from tokenmill.bench.cell import Cell
from tokenmill.bench.knee import SCRIPT
from tokenmill.bench.load import Load, Shot, Window
from tokenmill.bench.order import in_order
from tokenmill.bench.power import find_knee
from tokenmill.bench.saturation import drift, pooled
from tokenmill.bench.step import Limits, share_of, step_of, tokens_inside
from tokenmill.cluster import EngineOptions, Node
from tokenmill.driver.meaning import LoadKnee, keep_paces, read_paces
from tokenmill.engine.scripted import ScriptedEngine
from tokenmill.event import Attempt
from tokenmill.report.facts import DevicePace, Pace
from tokenmill.request import Request, Sampling
from tokenmill.testing import Behaviour, FaultServer

WINDOW = Window(1.0, 3.0)


# -- windows


def shot(
    due: float, first: float | None, end: float, tokens: int = 10, *, sent: float | None = None, how: str = "answered"
) -> Shot:
    """One request; `sent` when it was due unless said otherwise."""
    attempt = Attempt(
        row=0,
        lease=1,
        node=0,
        session=0,
        outcome=how,
        dispatched=due if sent is None else sent,
        finished=end,
        first_token=first,
        output_tokens=tokens,
        chunks=tokens,
        kind="transient" if how == "failed" else "",
    )
    return Shot(due=due, attempt=attempt)


def test_warm_up_is_left_out_by_event_time() -> None:
    """Latencies are of requests that were due in the window, rates of what happened in it, whenever that was due."""
    shots = [shot(0.5, 0.5, 1.5), shot(2.0, 2.0, 2.5), shot(2.5, 2.5, 3.5), shot(3.0, 3.0, 3.2)]
    step = step_of(shots, WINDOW, 0.0, Limits())
    assert [each.due for each in step.answered] == [2.0, 2.5]
    assert step.offered == 1.0
    assert step.answered_rate == 1.0  # two ended inside, of which one was due before
    assert step.tokens == pytest.approx(5 + 10 + 5)


def test_tokens_outside_the_window_count_nothing() -> None:
    """Tokens are spread from the first token to the end; an answer in one piece from when it was sent."""
    assert tokens_inside(shot(0.0, 0.0, 4.0, 8).attempt, WINDOW) == pytest.approx(4)
    assert tokens_inside(shot(0.0, None, 2.0, 8).attempt, WINDOW) == pytest.approx(4)
    assert tokens_inside(shot(3.0, 3.5, 4.0, 8).attempt, WINDOW) == 0
    assert tokens_inside(shot(1.0, 1.5, 2.0, 8, how="failed").attempt, WINDOW) == 0
    assert tokens_inside(shot(1.0, 2.0, 4.0, 8, how="cancelled").attempt, WINDOW) == pytest.approx(4)


def test_latency_counts_from_when_a_request_was_due() -> None:
    """A request that was sent late has waited since it was due, and the lateness is told."""
    step = step_of([shot(1.0, 2.5, 2.8, sent=2.0)], WINDOW, 0.5, Limits())
    assert step.waits == (1.0,)
    assert step.late == (1.0,)
    limits = Limits(ttft=1.4)
    assert step_of([shot(1.0, 2.5, 2.8, sent=2.0)], WINDOW, 0.5, limits).good_rate == 0.0


def test_goodput_counts_what_keeps_the_limits() -> None:
    """A request must keep all limits stated; failed ones and those that didn't end keep none."""
    limits = Limits(ttft=0.5, tpot=0.1)
    shots = [
        shot(1.0, 1.4, 2.2),
        shot(1.0, 1.6, 2.0),
        shot(1.0, 1.4, 2.5),
        shot(1.0, None, 1.1, how="failed"),
        shot(2.0, 2.1, 9.0, how="cancelled"),
    ]
    step = step_of(shots, WINDOW, 0.0, limits)
    assert step.good_rate == 0.5
    assert (step.failed, step.unfinished, len(step.answered)) == ({"transient": 1}, 1, 3)
    assert step_of(shots, WINDOW, 0.0, Limits()).good_rate is None


# -- over-saturation


def queue(dues: Iterator[float], until: float, slots: int, service: float) -> list[tuple[float, float]]:
    """(due, end) of each request at a server with hard slots, first come first served."""
    free: list[float] = [0.0] * slots
    spans = []
    for due in itertools.takewhile(lambda time: time < until, dues):
        end = max(due, heappop(free)) + service
        heappush(free, end)
        spans.append((due, end))
    return spans


def saturated(load: float, seed: int) -> bool:
    """The verdict on five windows of about 200 requests at 4 slots, from the medians of their figures."""
    found = [drift(queue(poisson(4.0 * load, f"{seed} {repeat}"), 70.0, 4, 1.0), 10.0, 60.0) for repeat in range(5)]
    middle = [share_of(values, 0.5) for values in zip(*((d.arrivals, d.rise, d.score) for d in found), strict=True)]
    return pooled(5, *middle).is_saturated


def test_over_saturation_is_found_where_arrivals_outrun_departures() -> None:
    """At 120 % of what the server can do it is found in at least 95 of 100 sweeps, at 80 % in none to three."""
    assert sum(saturated(1.2, seed) for seed in range(100)) >= 95
    assert sum(saturated(0.8, seed) for seed in range(100)) <= 3


def test_equal_gaps_within_capacity_never_look_saturated() -> None:
    """A queue that doesn't grow has no trend; one that grows steadily has the highest there is."""
    calm = drift(queue(constant(3.9), 70.0, 4, 1.0), 10.0, 60.0)
    full = drift(queue(constant(5.0), 70.0, 4, 1.0), 10.0, 60.0)
    assert not calm.is_saturated
    assert full.is_saturated
    assert full.tau == 1.0
    assert full.rise == pytest.approx(50, rel=0.1)


def test_the_trend_is_kendalls() -> None:
    """Score and chance agree with scipy's, as far as its normal approximation goes."""
    random = Random(0)
    spans = [(random.uniform(0, 10), random.uniform(10, 20)) for _ in range(40)]
    found = drift(spans, 2.0, 9.5)
    levels = [sum(max(0.0, min(end, b) - max(due, a)) for due, end in spans) for a, b in _stretches(2.0, 9.5)]
    theirs = kendalltau(range(10), levels, method="asymptotic", alternative="greater")
    assert found.tau == pytest.approx(theirs.statistic)
    assert found.chance == pytest.approx(theirs.pvalue, rel=1, abs=1e-3)  # ours is corrected for continuity


def _stretches(begin: float, end: float) -> list[tuple[float, float]]:
    bounds = [begin + number * (end - begin) / 10 for number in range(11)]
    return list(itertools.pairwise(bounds))


# -- the knee


def curve(rate: Any, widths: tuple[int, ...] = (1, 2, 4, 8, 16), noise: float = 0.0) -> dict[int, dict[int, float]]:
    """Throughput by width and repeat, five repeats with noise."""
    random = Random(1)
    return {n: {repeat: rate(n) * (1 + random.gauss(0, noise)) for repeat in range(5)} for n in widths}


@pytest.mark.parametrize("slots", [1, 2, 4, 8])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_knee_of_hard_slots_is_their_number(slots: int, noise: float) -> None:
    """Throughput that stops growing at so many has its knee there, and the repeats agree."""
    knee = find_knee(curve(lambda n: 10.0 * min(n, slots), noise=noise))
    assert knee is not None
    assert (knee.load, knee.votes, knee.repeats, knee.alike) == (slots, 5, 5, ())


def test_the_knee_of_a_falling_pace_is_where_power_is_greatest() -> None:
    """By the universal scalability law with s = 0.1 and no coherence, power is greatest at (1 - s) / s = 9."""
    knee = find_knee(curve(lambda n: n / (1 + 0.1 * (n - 1)), tuple(range(1, 33))))
    assert knee is not None
    assert (knee.load, knee.most) == (9, 32)


@pytest.mark.parametrize(("rate", "said"), [(lambda n: 10.0 * n, "still grows"), (lambda n: n**0.5, "don't tell")])
def test_a_curve_without_a_knee_has_none(rate: Any, said: str) -> None:
    """Power that grows to the end, or is the same everywhere, shows no knee, and that is said."""
    knee = find_knee(curve(rate, noise=0.01))
    assert knee is not None
    assert knee.load is None
    assert said in knee.reason


def test_one_width_is_no_curve() -> None:
    """A knee needs two widths that were measured."""
    assert find_knee(curve(lambda n: float(n), (4,))) is None
    assert find_knee({1: {0: 2.0}, 2: {}}) is None


# -- load, in virtual time


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers don't wait: its clock goes on to the next one at once."""

    def __init__(self) -> None:
        super().__init__(Jumping(self))
        self.jumped = 0.0

    def time(self) -> float:
        return getattr(self, "jumped", 0.0)


class Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.loop.jumped += timeout
        return super().select(0)


def virtual(work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def requests() -> Iterator[Request]:
    for row in itertools.count():
        yield Request(row=row, custom_id=str(row), prompt="x", sampling=Sampling(max_tokens=32))


async def played(script: Path, *, width: int = 0, rate: float = 0.0, patience: float = 60.0) -> list[Shot]:
    engine = ScriptedEngine(Node(name="n", engine="scripted", target=str(script)), EngineOptions())
    await engine.open()
    load = Load(engine, requests(), WINDOW, patience)
    await (load.closed(width) if width else load.open(constant(rate)))
    await engine.close()
    return load.shots


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(SCRIPT)
    return path


def test_the_default_server_has_its_knee_at_its_slots(script: Path) -> None:
    """Closed loops of the default server, in virtual time: most power at four, where latency begins to grow."""
    steps = {n: step_of(virtual(played(script, width=n)), WINDOW, 0.01, Limits()) for n in (1, 2, 4, 8)}
    knee = find_knee({n: {0: step.tokens / step.seconds} for n, step in steps.items()})
    assert knee is not None
    assert knee.load == 4
    waits = [share_of(step.waits, 0.5) for step in steps.values()]
    assert waits[:3] == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    assert waits[3] == pytest.approx(0.138, rel=0.05)  # those before it, one answer long


def test_an_open_loop_waits_for_nobody(script: Path) -> None:
    """With arrivals at twice the capacity, each is sent when it is due, and latency grows with the queue."""
    step = step_of(virtual(played(script, rate=58.0)), WINDOW, 0.01, Limits())
    assert max(step.late) < 1e-6
    assert step.unfinished == 0
    assert step.drift.is_saturated
    assert step.answered_rate == pytest.approx(4 / 0.138, rel=0.05)
    latencies = [each.attempt.finished - each.due for each in sorted(step.answered, key=lambda each: each.due)]
    assert latencies[-1] > 2 * latencies[0]


def test_an_open_loop_below_capacity_is_not_saturated(script: Path) -> None:
    """At 80 % of the capacity nothing waits."""
    step = step_of(virtual(played(script, rate=23.0)), WINDOW, 0.01, Limits())
    assert not step.drift.is_saturated
    assert share_of(step.waits, 0.95) < 1e-6


def test_patience_ends_and_what_is_left_is_told(script: Path) -> None:
    """Requests that don't end in time are counted as unfinished, and not as answered."""
    step = step_of(virtual(played(script, rate=200.0, patience=0.5)), WINDOW, 0.01, Limits())
    assert step.unfinished > 100
    assert not step.failed


def test_failures_are_counted_and_asked_for_with_pauses(tmp_path: Path) -> None:
    """A node that fails at once is not asked without pause, and its failures are those of the step."""
    path = tmp_path / "bad.toml"
    path.write_text('[[rule]]\nmatch = ""\nfail = "transient"\n')
    step = step_of(virtual(played(path, width=2)), WINDOW, 0.0, Limits())
    assert step.answered == ()
    assert 60 <= step.failed["transient"] <= 82


# -- the sweep


def test_the_open_loop_waits_for_all_repeats_of_the_closed_one() -> None:
    """Cells of a later stage come after every repeat of an earlier one."""
    cells = [Cell(group=name, factors={}, stage=stage) for name, stage in (("a", 0), ("b", 1), ("c", 0))]
    order = [cell.group for cell, _ in in_order(cells, 3, 0)]
    assert order[6:] == ["b"] * 3
    assert sorted(order[:6]) == ["a"] * 3 + ["c"] * 3


def bench(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TOKENMILL_BENCH": str(folder / "bench"), "TOKENMILL_RUNS": str(folder / "runs")}
    command = [sys.executable, "-m", "tokenmill", "bench", "knee", *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=300)


QUICK = ("--widths", "1,2,4", "--seconds", "0.6", "--warm-up", "0.2", "--repeats", "2", "--json", "-q")


def test_a_sweep_of_the_script_measures_both_loops(tmp_path: Path) -> None:
    """Shares of the best become rates; every reading is whole, and nothing of a script is kept for runs."""
    done = bench(tmp_path, *QUICK, "--rates", "50%,10", "--arrivals", "constant", "--ttft", "1000")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    rows = {f"{row['cell']['group']} {next(iter(row['cell']['factors'].values()))}": row for row in results["rows"]}
    assert list(rows) == [f"closed loop {n}" for n in (1, 2, 4)] + [
        "open loop, constant 10/s",
        "open loop, constant 50 %",
    ]
    assert all(row["success"]["value"] == 1.0 for row in rows.values())
    best = max(rows[f"closed loop {n}"]["extra"]["requests_per_second"] for n in (1, 2, 4))
    assert 0.2 * best < rows["open loop, constant 50 %"]["extra"]["offered"] < 0.8 * best
    assert "goodput" in rows["open loop, constant 10/s"]["extra"]
    assert any("closed loop" in said for said in results["findings"])
    assert not (tmp_path / "runs").exists()


def test_the_knee_of_a_server_is_kept_where_bounds_look(tmp_path: Path) -> None:
    """A real server with two slots: its knee stands beside the runs, under its host, device and model."""
    with FaultServer(Behaviour(slots=2, rate=400.0)) as server:
        node = ("--node", f"openai:{server.url}")
        done = bench(tmp_path, *QUICK, *node, "--widths", "1,2,6", "--rates", "none", "--seconds", "2.2")
    assert done.returncode == 0, done.stderr
    assert "the knee is kept" in done.stderr
    (kept,) = read_paces(tmp_path / "runs")
    assert kept.knee is not None
    assert kept.knee.requests in (1, 2)
    assert kept.pace.width > 0


def test_a_run_keeps_the_knee_that_a_sweep_found(tmp_path: Path) -> None:
    """Better paces of later runs leave the knee; files from before there were knees are read."""
    place = {"host": "h", "device": "d", "digest": "m"}
    (tmp_path / "paces.json").write_text(json.dumps([place | {"pace": {"decode": 5.0}}]))
    knee = LoadKnee(requests=4, throughput=9.0, latency=1.0, most=8, best=10.0, method="m", date="2026-01-01")
    keep_paces(tmp_path, (DevicePace(**place, pace=Pace()),), knee)
    keep_paces(tmp_path, (DevicePace(**place, pace=Pace(decode=7.0)),))
    (kept,) = read_paces(tmp_path)
    assert (kept.pace.decode, kept.knee) == (7.0, knee)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--widths", "0"), "--widths: '0' is no whole number from 1"),
        (("--rates", "fast"), "--rates: 'fast' is no rate"),
        (("--rates", "-1"), "--rates: '-1' is no rate"),
        (("--rates", "recorded"), "name one with --arrivals"),
        (("--arrivals", "missing.txt"), "missing.txt: can't be read"),
        (("--source", "missing.txt"), "missing.txt"),
        (("--seconds", "0"), "seconds"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_sent(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    """The message names option and value, and no folder is made."""
    done = bench(tmp_path, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "bench").exists()

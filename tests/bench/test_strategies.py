"""The strategies suite: the shapes that the simulator predicts, and options that don't go together."""

from __future__ import annotations

import tomllib
from math import exp
from pathlib import Path
from random import Random

import msgspec
import pytest

from cli.desk import Desk
from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.folder import SweepFolder
from tokenmill.bench.strategies import BOUNDLESS, SUITE, TOKENS, StrategiesOptions, script_of
from tokenmill.bench.sweep import results_of
from tokenmill.bench.table import Row, rows_of
from tokenmill.schedule.choose import make
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.outcome import SimRow
from tokenmill.schedule.simulate import SimNode, simulate
from tokenmill.workload.builtin import SENTENCES

OPTIONS = StrategiesOptions(engine="scripted", widths="1,4,8,12")
SENTENCE = 0.01
REPEATS = 5


def predicted(cell: Cell) -> float:
    """Seconds in the simulator, where a sentence takes the same time on as many real slots."""
    slots, width = cell.group.split()[0], int(cell.factors["in flight"])
    curve = Curve(slots=None if slots == BOUNDLESS else int(slots))
    node = SimNode(slots=width, speed=TOKENS / SENTENCE, curve=curve)
    rows = [SimRow(row=row, tokens=TOKENS * count, length=float(TOKENS * count)) for row, count in enumerate(SENTENCES)]
    found = simulate(make(str(cell.factors["strategy"])), rows, [node])
    assert found.unfinished == 0
    return found.makespan


@pytest.fixture(scope="module")
def readings() -> list[Reading]:
    """What a machine would measure that is the simulator but for 1 % of noise."""
    random = Random(7)
    made = []
    for cell in SUITE.cells(OPTIONS):
        seconds = predicted(cell)
        for repeat in range(REPEATS):
            took = seconds * exp(random.gauss(0, 0.01))
            made.append(
                Reading(
                    cell=cell.key,
                    repeat=repeat,
                    seconds=took,
                    requests=len(SENTENCES),
                    answered=len(SENTENCES),
                    output_tokens=TOKENS * sum(SENTENCES),
                    digest="same",
                )
            )
    return made


@pytest.fixture(scope="module")
def rows(readings: list[Reading]) -> list[Row]:
    return rows_of(SUITE.cells(OPTIONS), readings, SUITE.unit)


def seconds_of(rows: list[Row], group: str, strategy: str, width: int) -> float:
    (value,) = [
        row.seconds.value
        for row in rows
        if row.cell.group == group and tuple(row.cell.factors.values()) == (strategy, width)
    ]
    assert value is not None
    return value


def test_one_slot_gains_nothing(rows: list[Row]) -> None:
    """Whatever the strategy and the number in flight: nothing is quicker by more than the noise, and it is said."""
    ones = [row for row in rows if row.cell.group == "1 slot" and row.speedup is not None]

    assert len(ones) == 3 * 3 + 1
    for row in ones:
        assert row.speedup is not None
        assert row.speedup.value == pytest.approx(1.0, abs=0.02)
        assert row.serial_fraction.value == pytest.approx(1.0, abs=0.05)
    said = SUITE.findings(OPTIONS, [row for row in rows if row.cell.group == "1 slot"])
    assert any(each.startswith("1 slot: parallelism does not pay here") for each in said)


@pytest.mark.parametrize("width", [4, 8, 12])
def test_static_falls_behind(rows: list[Row], width: int) -> None:
    """Dealt out beforehand, the longest queue decides: stealing and pull end sooner, and so they do when read."""
    static, stealing, pull = (seconds_of(rows, "inf slots", name, width) for name in ("static", "stealing", "pull"))

    assert static > 1.05 * pull
    assert static > 1.05 * stealing


def test_as_many_slots_as_in_flight_scale(rows: list[Row]) -> None:
    """Without a limit pull gains at each width, at most its number; efficiency falls as the tail weighs more."""
    found = [row for row in rows if row.cell.group == "inf slots" and row.cell.factors["strategy"] == "pull"]

    values = [row.efficiency.value or 0 for row in found]
    assert [row.cell.workers for row in found] == [4, 8, 12]
    assert values == sorted(values, reverse=True)
    assert 0.5 < values[-1] < values[0] <= 1.02
    assert all(row.claim is not None and row.claim.finding == "better" for row in found)


def test_four_slots_bring_no_more_than_four(rows: list[Row]) -> None:
    """With four real slots, eight or twelve in flight are as quick as four, and the smaller number is named."""
    fours = [row for row in rows if row.cell.group == "4 slots"]

    assert all((row.speedup.value or 0) < 4.05 for row in fours if row.speedup is not None)
    for strategy in ("static", "stealing", "pull"):
        assert seconds_of(fours, "4 slots", strategy, 12) == pytest.approx(
            seconds_of(fours, "4 slots", strategy, 8), rel=0.1
        )
    assert SUITE.findings(OPTIONS, fours)[0].startswith("4 slots: quickest is ")


def test_nothing_is_concluded_without_a_baseline(rows: list[Row]) -> None:
    """Where nobody was compared with one at a time, nobody is told that parallelism doesn't pay."""
    alone = [msgspec.structs.replace(row, speedup=None, claim=None) for row in rows[1:4]]

    assert not any("does not pay" in said for said in SUITE.findings(OPTIONS, alone))


def test_the_script_answers_in_the_time_asked_for() -> None:
    """N sentences take N times as long, with the capacity named; without a limit none is."""
    script = tomllib.loads(script_of("4", 0.02))

    assert script["capacity"] == 4
    assert script["per_token"] * TOKENS == pytest.approx(0.02)
    assert [rule["tokens"] for rule in script["rule"]] == [TOKENS * number for number in range(1, max(SENTENCES) + 1)]
    assert "capacity" not in tomllib.loads(script_of(BOUNDLESS, 0.02))


# -- the command


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.environment["TOKENMILL_BENCH"] = str(tmp_path / "sweeps")
    return made


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--slots", "0"], "--slots: '0' is no whole number from 1"),
        (["--slots", ","], "--slots: an empty list; give one such as 1,4,inf"),
        (["--widths", "a,b"], "--widths: 'a' is no whole number from 1; give a list such as 1,2,4"),
        (["--strategies", "poll"], "--strategies: 'poll' is unknown; did you mean 'pull'? known: sequential, "),
        (["--strategies", ","], "--strategies: an empty list; known: "),
        (["--strategies", "pull", "--widths", "1"], "--widths 1: pull needs 2 or more in flight"),
        (["--sentence", "0"], "--sentence 0.0: expected float > 0.0"),
        (["--sentence", "inf"], "--sentence inf: expected float <= "),
        (["--limit", "0"], "--limit 0: expected int >= 1"),
        (["--source", "none.txt"], "none.txt: no such file; check the path"),
        (["--source", "empty.txt"], "empty.txt: holds no rows"),
        (["--source", "-"], "--source -: each reading reads the prompts again"),
        (["--model", "demo"], "leave out --model and --node"),
        (["--engine", "foo"], "--engine 'foo': known is scripted"),
        (["--nope", "1"], "no such option '--nope'"),
        (["--target", "speed>3"], "names the figure 'speed'; known: "),
        (["--bench-dir", "ok.txt/x"], "can't be made (File exists); use --bench-dir"),
    ],
)
def test_bad_options_are_refused_before_a_folder_is_made(desk: Desk, words: list[str], said: str) -> None:
    """Value, place and way out, exit code 2, and nothing is left behind."""
    desk.write("empty.txt", "")

    ended = desk.call("bench", "strategies", "--engine", "scripted", *words)

    assert ended.code == 2, ended.err
    assert said in ended.err
    assert not (desk.folder / "sweeps").exists()


def test_files_named_hold_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that is resumed from elsewhere reads the same prompts."""
    (tmp_path / "in.txt").write_text("one\n")
    monkeypatch.chdir(tmp_path)

    assert SUITE.settled(StrategiesOptions(source="in.txt"), tmp_path).source == str(tmp_path / "in.txt")
    assert SUITE.settled(StrategiesOptions(model="demo"), tmp_path).model == "demo"


def whole_sweep(where: Path, readings: list[Reading], slower: float = 1.0, targets: tuple[str, ...] = ()) -> str:
    """A sweep that needs no further reading; returns its path. The cells of pull are `slower`."""
    data = msgspec.to_builtins(OPTIONS)
    folder = SweepFolder.create(where, "strategies", data, repeats=REPEATS, seed=0, targets=targets)
    for each in readings:
        by = slower if "strategy=pull" in each.cell else 1.0
        folder.add(msgspec.structs.replace(each, seconds=each.seconds * by))
    assert results_of(folder).complete
    return str(folder.path)


def test_targets_decide_the_exit_code(desk: Desk, readings: list[Reading]) -> None:
    """A missed one gives 3; what is reached or can't be judged gives 0; each is told with its value."""
    targets = ("speedup@8>=4", "seconds@inf-slots/pull/8<1ms", "joules_per_token<1")
    missed = whole_sweep(desk.folder / "sweeps", readings, targets=targets)
    reached = whole_sweep(desk.folder / "sweeps", readings, targets=("speedup@8>=4", "joules_per_token<1"))

    ended = desk.call("bench", "resume", missed)
    assert ended.code == 3, ended.err
    assert "fail  seconds@inf-slots/pull/8<1ms" in ended.out
    assert "pass  speedup@8>=4: 6." in ended.out
    assert "n/a   joules_per_token<1: it was not measured" in ended.out
    assert desk.call("bench", "resume", reached).code == 0


def test_compare_finds_what_became_slower(desk: Desk, readings: list[Reading]) -> None:
    """A tenth more seconds in the cells of pull is a regression there and nowhere else, exit code 3; none gives 0."""
    where = desk.folder / "sweeps"
    old, new = whole_sweep(where, readings), whole_sweep(where, readings, slower=1.1)

    ended = desk.call("bench", "compare", old, new)
    assert ended.code == 3, ended.err
    slower = [line.split()[1:] for line in ended.out.splitlines() if line.split()[:1] == ["regression"]]
    assert len(slower) == 9
    assert all("strategy=pull" in words for words in slower)
    assert desk.call("bench", "compare", old, old).code == 0
    assert desk.call("bench", "compare", new, old).code == 0


def test_compare_refuses_sweeps_without_a_common_cell(desk: Desk, readings: list[Reading]) -> None:
    """Nothing can be said of them, which is an error and not silence."""
    where = desk.folder / "sweeps"
    other = SweepFolder.create(
        where, "strategies", msgspec.to_builtins(StrategiesOptions()), repeats=1, seed=0, targets=()
    )

    ended = desk.call("bench", "compare", whole_sweep(where, readings), str(other.path))

    assert ended.code == 2
    assert "have no cell in common; compare sweeps of one suite" in ended.err

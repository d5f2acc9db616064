"""A table of readings whose answers are known: ratios, laws, memory, energy, and what may not be claimed."""

from __future__ import annotations

from math import exp
from typing import Any

import pytest
from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.columns import figures_of, points_of
from tokenmill.bench.sentences import of_law
from tokenmill.bench.table import Row, laws_of, rows_of, speedups_of

BASE = Cell(group="g", factors={"strategy": "sequential", "in flight": 1}, is_baseline=True)
FOUR = Cell(group="g", factors={"strategy": "pull", "in flight": 4}, workers=4)
#: What both sides of a pair have in common, as logarithms: how busy the machine was in that repeat.
TIDE = (0.0, 0.3, -0.2, 0.1, -0.4)
MIB = 1 << 20


def reading(cell: Cell, repeat: int, seconds: float, **more: Any) -> Reading:
    usual: dict[str, Any] = {"requests": 10, "answered": 10, "output_tokens": 1000, "digest": "same"}
    return Reading(cell=cell.key, repeat=repeat, seconds=seconds, **usual | more)


def both(ratio: float = 2.5, repeats: int = 5, base: dict[str, Any] | None = None, **more: Any) -> list[Reading]:
    """Pairs in which the second cell is quicker by `ratio`, whatever the tide."""
    found = []
    for repeat, tide in enumerate(TIDE[:repeats]):
        found.append(reading(BASE, repeat, 8 * exp(tide), **base or {}))
        found.append(reading(FOUR, repeat, 8 * exp(tide) / ratio, **more))
    return found


def four(readings: list[Reading]) -> Row:
    (_, row) = rows_of([BASE, FOUR], readings, "slot")
    return row


def test_pairs_give_the_ratio_that_was_planted() -> None:
    """What a repeat has in common drops out: speedup, efficiency and serial fraction are exact, and claimed."""
    row = four(both())

    assert row.speedup is not None
    assert [row.speedup.value, row.speedup.low, row.speedup.high] == pytest.approx([2.5, 2.5, 2.5])
    assert row.efficiency.value == pytest.approx(2.5 / 4)
    assert row.efficiency.unit == "per slot"
    assert row.serial_fraction.value == pytest.approx((1 / 2.5 - 1 / 4) / (1 - 1 / 4))
    assert row.claim is not None
    assert row.claim.finding == "better"
    assert row.seconds.value == pytest.approx(8 * exp(sum(TIDE) / 5) / 2.5)
    assert speedups_of([BASE, FOUR], both()) == [row.speedup]


def test_a_claim_needs_five_pairs() -> None:
    """With four, the value and its interval are there, and nothing is claimed."""
    row = four(both(repeats=4))

    assert row.claim is not None
    assert row.claim.finding == "n/a"
    assert "needs 5 pairs, there are 4 pairs" in row.claim.reason


def test_a_pair_without_a_partner_counts_nowhere() -> None:
    """A repeat in which one side failed is left out of the ratio, not of the failures."""
    readings = [each for each in both() if (each.cell, each.repeat) != (BASE.key, 3)]
    readings.append(Reading(cell=BASE.key, repeat=3, fault="killed"))
    base, row = rows_of([BASE, FOUR], readings, "slot")

    assert row.speedup is not None
    assert row.speedup.counts == (4,)
    assert row.claim is not None
    assert row.claim.finding == "n/a"
    assert base.faults == ("killed",)
    assert base.seconds.counts == (4,)


def test_failures_are_counted_apart() -> None:
    """A reading with failed requests is no time to compare, and its failures are told by class."""
    readings = both()
    readings[1] = replace(readings[1], answered=7, failed={"timeout": 2, "refused": 1}, seconds=0.001)
    row = four(readings)

    assert row.success.value == pytest.approx(47 / 50)
    assert row.failed == {"timeout": 2, "refused": 1}
    assert row.seconds.counts == (4,)
    assert row.speedup is not None
    assert row.speedup.value == pytest.approx(2.5)


def test_a_cell_without_a_whole_reading_has_no_figures() -> None:
    """Nothing is shown as 0 or as quick: every figure is n/a and says so."""
    readings = [each for each in both() if each.cell == BASE.key]
    readings += [Reading(cell=FOUR.key, repeat=repeat, fault="out of memory") for repeat in range(5)]
    row = four(readings)

    values = {name: figure.value for name, figure in figures_of(row).items()}
    assert {name for name, value in values.items() if value is not None} == set()
    assert row.readings == 5
    assert row.faults == ("out of memory",)


@pytest.mark.parametrize(
    ("tokens", "said"), [(1010, ""), (991, ""), (1011, "1011 against 1000 tokens"), (500, "500 against 1000 tokens")]
)
def test_answers_that_differ_are_compared_by_rate_beyond_one_percent(tokens: int, said: str) -> None:
    """Within 1 % of the tokens seconds are compared; beyond that tokens per second are, and it is said."""
    row = four(both(digest="other", output_tokens=tokens))

    assert row.speedup is not None
    assert said in row.equal
    assert bool(row.equal) == bool(said)
    assert row.speedup.value == pytest.approx(2.5 * tokens / 1000 if said else 2.5)


def test_equal_answers_of_no_time_give_no_ratio() -> None:
    """A reading in which no time was seen to pass has no rate; it is n/a, not a division by zero."""
    readings = both(digest="other", output_tokens=10)
    readings[1] = replace(readings[1], seconds=0.0)
    row = four(readings)

    assert row.speedup is not None
    assert row.speedup.value is None
    assert "measured 0" in row.speedup.reason


def test_without_a_baseline_nothing_is_compared() -> None:
    """A group that has none shows its times alone."""
    (row,) = rows_of([FOUR], [each for each in both() if each.cell == FOUR.key], "slot")

    assert row.speedup is None
    assert row.claim is None
    assert row.efficiency.value is None
    assert row.seconds.value is not None


def test_memory_per_worker_is_what_is_beyond_the_baseline() -> None:
    """The largest sum of peaks over repeats, and what each of the three further workers took of it."""
    readings = both(base={"peak_rss": {"driver": 100 * MIB}}, peak_rss={"driver": 100 * MIB, "child": 60 * MIB})
    readings[-1] = replace(readings[-1], peak_rss={"driver": 130 * MIB, "child": 60 * MIB})
    base, row = rows_of([BASE, FOUR], readings, "slot")

    assert row.memory.value == 190 * MIB
    assert row.more_memory.value == 30 * MIB
    assert base.more_memory.value is None
    assert "no more workers" in base.more_memory.reason


def test_what_was_not_measured_keeps_its_reason() -> None:
    """Energy, memory and the bound that aren't there say why, and are never 0."""
    row = four(both(missing={"energy": "no counter here", "memory": "no /proc", "bound": "width 1 only"}))

    for figure, reason in ((row.joules_per_token, "no counter here"), (row.memory, "no /proc"), (row.bound, "width 1")):
        assert figure.value is None
        assert reason in figure.reason
    assert row.more_memory.value is None


def test_energy_is_per_token_and_per_answer() -> None:
    """50 J for 1000 tokens in 10 answers; one repeat without a figure makes it n/a."""
    readings = both(energy=50.0)
    row = four(readings)
    assert row.joules_per_token.value == pytest.approx(0.05)
    assert row.joules_per_answer.value == pytest.approx(5.0)

    readings[-1] = replace(readings[-1], energy=None, missing={"energy": "the counter went away"})
    assert four(readings).joules_per_token.reason == "the counter went away"


def test_the_scaling_law_that_was_planted_is_found() -> None:
    """Serial share, coherence and best N come back from rates made with them; baselines have no law of their own."""
    serial, coherence = 0.05, 0.004
    cells = [Cell(group="g", factors={"strategy": "pull", "in flight": n}, workers=n) for n in (1, 2, 4, 8, 16, 24)]
    readings = [
        reading(cell, repeat, 1000 / (100 * n / (1 + serial * (n - 1) + coherence * n * (n - 1))))
        for cell in cells
        for n in [int(cell.workers)]
        for repeat in range(2)
    ]
    (law,) = laws_of(rows_of(cells, readings, "slot"), readings, "in flight")

    assert (law.group, law.of, law.widest) == ("g", "pull", 24)
    assert law.law is not None
    assert [law.law.serial, law.law.coherence] == pytest.approx([serial, coherence], rel=1e-6)
    assert law.best.value == pytest.approx(((1 - serial) / coherence) ** 0.5)
    assert law.one_more.value is not None
    assert law.one_more.value < 0


def test_a_best_number_beyond_the_widest_is_called_so() -> None:
    """The sentence says whether the best N lies where nothing was measured."""
    cells = [Cell(group="g", factors={"strategy": "pull", "in flight": n}, workers=n) for n in (1, 2, 4, 6, 8, 24)]
    readings = [
        reading(cell, 0, (1 + 0.05 * (n - 1) + 0.004 * n * (n - 1)) / n) for cell in cells for n in [int(cell.workers)]
    ]
    (all_of_them,) = laws_of(rows_of(cells, readings, "slot"), readings, "in flight")
    (up_to_eight,) = laws_of(rows_of(cells[:-1], readings[:-1], "slot"), readings[:-1], "in flight")

    assert "best N 15.4, one more" in of_law(all_of_them)
    assert "best N 15.4 (beyond what was measured), one more" in of_law(up_to_eight)


def test_a_law_needs_five_widths() -> None:
    """With four of them there is none, and the reason is told."""
    cells = [Cell(group="g", factors={"strategy": "pull", "in flight": n}, workers=n) for n in (1, 2, 4, 8)]
    readings = [reading(cell, 0, 1 / cell.workers) for cell in cells]
    (law,) = laws_of(rows_of(cells, readings, "slot"), readings, "in flight")

    assert law.law is None
    assert "needs 5 different numbers of workers, not 4" in law.reason


def test_the_baseline_is_the_point_at_one_worker() -> None:
    """One worker needs no strategy, so the law of every strategy holds the cell without one."""
    base = Cell(group="g", factors={"strategy": "sequential", "in flight": 1}, is_baseline=True)
    cells = [base] + [Cell(group="g", factors={"strategy": "pull", "in flight": n}, workers=n) for n in (2, 4, 8, 16)]
    readings = [reading(cell, 0, (1 + 0.1 * (cell.workers - 1)) / cell.workers) for cell in cells]
    (law,) = laws_of(rows_of(cells, readings, "slot"), readings, "in flight")

    assert law.law is not None
    assert law.law.serial == pytest.approx(0.1, rel=1e-6)


def test_points_are_named_by_cell_and_by_workers() -> None:
    """`speedup@pull/4` is the cell's, `speedup@4` the best of that many workers, `speedup` the best of all."""
    static = Cell(group="g", factors={"strategy": "static", "in flight": 4}, workers=4)
    readings = both() + [replace(each, cell=static.key, seconds=2 * each.seconds) for each in both()[1::2]]
    points = points_of(rows_of([BASE, FOUR, static], readings, "slot"))

    assert points["speedup@g/static/4"].value == points["speedup@static/4"].value == pytest.approx(1.25)
    assert points["speedup@4"].value == points["speedup"].value == pytest.approx(2.5)
    assert points["seconds@4"].value == points["seconds@pull/4"].value

"""What charts draw: bounded, and the same amounts as the run's."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from report.dossiers import dossier, large, planted
from report.scripted import attempt, facts, node, runs, waves
from tokenmill.event import Attempt
from tokenmill.report.certificate import judge
from tokenmill.report.facts import RunFacts
from tokenmill.report.flow import level
from tokenmill.report.gantt import COLUMNS, MOST_BARS, MOST_LANES, gantt
from tokenmill.report.picture import picture
from tokenmill.report.timeline import collect


def test_a_level_is_the_mean_over_each_step() -> None:
    """Two intervals with weights, over four steps of one second."""
    found = level([0.0, 1.5], [2.0, 4.0], 4.0, [1.0, 2.0], points=4)

    assert found.step == 1.0
    assert found.values == (1.0, 2.0, 2.0, 2.0)


def test_the_steps_lead_from_the_bound_to_the_makespan() -> None:
    """Each part begins where the one before it ended, and the last ends at the makespan."""
    *parts, whole = planted().picture.steps

    assert [parts[0].name, whole.name] == ["bound", "makespan"]
    assert all(after.start == pytest.approx(before.start + before.seconds) for before, after in pairwise(parts))
    assert parts[-1].start + parts[-1].seconds == pytest.approx(whole.seconds)


def test_without_a_bound_the_states_are_the_steps() -> None:
    """A run without an answer shows what its slots did instead."""
    tries = [attempt(0, 1.0, 4.0, outcome="failed")]
    steps = dossier(facts(1, node(1, load=1.0), answered=0, failed={"timeout": 1}), tries).picture.steps

    assert [(step.name, round(step.seconds, 3)) for step in steps] == [
        ("loading", 1.0),
        ("retried", 4.0),
        ("makespan", 5.0),
    ]


def test_throughput_adds_up_to_the_tokens() -> None:
    """All tokens of all answers are under the line."""
    shown = planted().picture.throughput

    assert sum(shown.values) * shown.step == pytest.approx(1300, rel=1e-6)


def test_the_batch_width_is_that_of_the_passes() -> None:
    """Where answers were written the reported width is shown, and 0 where nothing was."""
    width = dossier(facts(8, node(4, load=5.0)), waves(8, 4, start=5.0, width=3.0)).picture.width

    assert {round(value, 6) for value in width.values} == {0.0, 3.0}


def test_slots_have_lanes() -> None:
    """Requests of four slots stand in four lanes, none over another."""
    shown = planted().picture.gantt

    assert [lane.slot for lane in shown.lanes] == [1, 2, 3, 4]
    assert [bar.kind for bar in shown.lanes[0].bars] == ["loading", *["answered"] * 4]
    for lane in shown.lanes:
        assert all(after.start >= before.end for before, after in pairwise(lane.bars))


def test_a_failure_is_not_hidden_by_answers() -> None:
    """Among very many short answers a failed attempt has a bar that shows it."""
    short = [attempt(row, row * 0.01, 0.01) for row in range(20_000)]
    short[9_000] = attempt(9_000, 90.0, 0.01, outcome="failed")

    (lane,) = gantt(collect(facts(20_000, node(1)), short)).lanes

    assert [bar.kind for bar in lane.bars] == ["answered", "failed", "answered"]
    assert sum(bar.requests for bar in lane.bars) == 20_000


@settings(max_examples=60, deadline=None)
@given(runs(), st.sampled_from([7, 260, 900]))
def test_any_run_has_a_picture(run: tuple[RunFacts, list[Attempt]], columns: int) -> None:
    """Bars are in order, inside the run, and no more than there are columns."""
    timeline = collect(*run)
    picture(timeline, judge(timeline))
    for lane in gantt(timeline, columns=columns).lanes:
        assert len(lane.bars) <= columns + 1
        assert all(0 <= bar.start <= bar.end <= timeline.makespan * (1 + 1e-9) + 1e-9 for bar in lane.bars)
        starts = [bar.start for bar in lane.bars]
        assert starts == sorted(starts)


def test_many_slots_are_thinned_out() -> None:
    """Of a hundred slots as many are drawn as can be told apart, and it is known how many there were."""
    shown = gantt(collect(facts(200, node(100)), waves(200, 100)))

    assert len(shown.lanes) == MOST_LANES
    assert shown.slots == 100


def test_a_large_run_is_drawn_with_a_bounded_number_of_bars() -> None:
    """Ten thousand requests or more: the picture doesn't grow with them."""
    timeline = collect(*large())
    shown = picture(timeline, judge(timeline))

    assert sum(len(lane.bars) for lane in shown.gantt.lanes) <= MOST_BARS + MOST_LANES
    assert max(len(lane.bars) for lane in shown.gantt.lanes) <= COLUMNS
    assert all(len(each.values) <= 121 for each in shown.distributions)

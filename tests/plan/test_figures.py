"""The speed of a node, from what a check or a run saw of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.plan.figures import Figure, Step, fit, speed_from_runs, speed_of, steps_of, wider
from tokenmill.plan.identity import Sighting
from tokenmill.plan.ramp import Burst, Shot


def pace(running: int, alone: float, serial: float, coherence: float) -> float:
    return alone / (1 + serial * (running - 1) + coherence * running * (running - 1))


def burst(width: int, slots: int, alone: float = 50.0, serial: float = 0.0, coherence: float = 0.0) -> Burst:
    """What a server with this curve makes of requests that are sent at once: waves of as many as it has slots."""
    shots: list[Shot] = []
    begin = 0.0
    while len(shots) < width:
        running = min(slots, width - len(shots))
        each = pace(running, alone, serial, coherence)
        shots += [Shot(begin + 0.1, begin + 0.1 + 15 / each, 16)] * running
        begin = shots[-1].last
    return Burst(tuple(shots))


def figure(*steps: Step, slots: int | None = 4, is_full: bool = True) -> Figure:
    return Figure(
        node="a",
        address="http://a:1",
        engine="ollama",
        model="m",
        digest="d",
        host="a",
        device="a:1",
        checked="2026-11-20T10:00:00+0000",
        sighting=Sighting(node="a"),
        slots=slots,
        is_full=is_full,
        first_token=0.1,
        steps=steps,
    )


@given(
    alone=st.floats(1, 1000),
    serial=st.floats(0, 2),
    coherence=st.floats(0, 0.3),
    most=st.integers(min_value=4, max_value=32),
)
def test_the_curve_of_a_server_is_found(alone: float, serial: float, coherence: float, most: int) -> None:
    """From exact paces at three loads or more the law gives back the two numbers that made them."""
    loads = [1, 2, most // 2 + 1, most]
    found = fit([Step(load, pace(load, alone, serial, coherence)) for load in loads], alone)
    assert found == pytest.approx((serial, coherence), rel=1e-4, abs=1e-6)


def test_a_pace_that_rises_with_load_is_no_load() -> None:
    """Measurements that scatter never make a server that gains from load, whose throughput would have no end."""
    assert fit([Step(1, 10), Step(2, 11), Step(4, 10.5)], 10) == (0.0, 0.0)
    serial, coherence = fit([Step(1, 10), Step(2, 12), Step(4, 5)], 10)
    assert serial >= 0
    assert coherence >= 0


def test_one_point_makes_no_knee() -> None:
    """With a single measurement under load the pace falls as it did there, and throughput never declines beyond it."""
    assert fit([Step(1, 10), Step(2, 8)], 10) == (pytest.approx(0.25), 0.0)
    assert fit([Step(1, 10)], 10) == (0.0, 0.0)


def test_requests_that_waited_are_left_out() -> None:
    """Of a burst wider than the slots the paces count of the answers that ran at the same time."""
    steps = steps_of([burst(1, 3, serial=0.2), burst(2, 3, serial=0.2), burst(4, 3, serial=0.2)])
    assert [step.running for step in steps] == [1, 2, 3]
    assert steps[2].pace == pytest.approx(pace(3, 50, 0.2, 0))


def test_answers_of_a_token_show_no_pace() -> None:
    """Bursts that say nothing leave no step, and a figure without one has no speed."""
    assert steps_of([Burst((Shot(0.1, 0.1, 1),)), Burst(())]) == ()
    assert speed_of(figure()) is None
    assert speed_of(figure(Step(1, 10), slots=None)) is None


def test_the_best_rate_may_be_below_the_slots() -> None:
    """A server with a knee writes most with fewer requests than it has slots."""
    paces = [Step(load, pace(load, 10, 0, 0.06)) for load in (1, 2, 4, 8)]
    speed = speed_of(figure(*paces, slots=8))
    assert speed is not None
    assert speed.best == pytest.approx(speed.rate(4))
    assert speed.best > speed.rate(8)


def test_runs_show_a_speed_too() -> None:
    """One request's pace and that of a batch give the curve; with neither, or one of two, there is none."""
    speed = speed_from_runs(slots=8, single_stream=0.1, decode=40, width=8)
    assert speed is not None
    assert (speed.alone, speed.rate(8)) == (pytest.approx(10), pytest.approx(40))
    assert speed_from_runs(slots=8, single_stream=0.0, decode=40, width=8) is None
    assert speed_from_runs(slots=8, single_stream=0.1, decode=10, width=1) is None
    one = speed_from_runs(slots=1, single_stream=0.1, decode=0, width=1)
    assert one is not None
    assert one.best == pytest.approx(10)


def test_a_run_that_went_beyond_the_check_widens_its_figure() -> None:
    """A check that met no limit is completed by what a run with more requests showed."""
    found = speed_of(wider(figure(Step(1, 10), Step(4, 10), is_full=False), 16, 80))
    assert found is not None
    assert found.slots == 16
    assert found.rate(16) == pytest.approx(80, rel=0.15)

"""The pace of a device under load, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.schedule import curve as simulated
from tokenmill.testing.behaviour import Curve
from tokenmill.testing.device import Device


def finished(curve: Curve, arrivals: list[tuple[float, float, int]]) -> list[float]:
    """When each piece of work, given as start, seconds and owner, was done."""
    device, ends = Device(curve), [0.0] * len(arrivals)
    waiting = sorted(range(len(arrivals)), key=lambda index: arrivals[index][0])
    while True:
        due = device.next_at()
        if waiting and (due is None or arrivals[waiting[0]][0] <= due):
            index = waiting.pop(0)
            start, seconds, owner = arrivals[index]
            device.join(start, owner)
            device.add(start, seconds, index)
        elif due is not None:
            for _, index in device.due(due):
                ends[index] = due
                device.leave(due, arrivals[index][2])
        else:
            return ends


def test_hard_slots_do_not_slow_each_other() -> None:
    """Without a curve each request runs as if alone."""
    assert finished(Curve(), [(0, 2, 0), (0, 3, 0), (1, 1, 0)]) == pytest.approx([2, 3, 2])


def test_a_full_device_is_shared_evenly() -> None:
    """With `serial` 1 the pace is divided: two take twice as long as one."""
    assert finished(Curve(serial=1), [(0, 1, 0), (0, 1, 0)]) == pytest.approx([2, 2])


def test_who_stays_speeds_up_when_another_leaves() -> None:
    """The pace follows the number that runs at each moment, not the one at the start."""
    assert finished(Curve(serial=1), [(0, 1, 0), (0, 3, 0)]) == pytest.approx([2, 4])


def test_pace_falls_with_load() -> None:
    """With `serial` 0.5 two requests run at two thirds of the pace of one each."""
    assert finished(Curve(serial=0.5), [(0, 2, 0), (0, 2, 0)]) == pytest.approx([3, 3])


def test_throughput_declines_beyond_the_knee() -> None:
    """Beyond the knee all together are slower than fewer were."""
    curve = Curve(coherence=0.1)
    totals = [count * curve.share(count, 1) for count in (1, 2, 3, 4, 5)]
    assert totals == pytest.approx([1, 2 / 1.2, 3 / 1.6, 4 / 2.2, 5 / 3])


@given(st.integers(1, 40), st.integers(1, 5), st.floats(0, 2), st.floats(0, 1), st.floats(0, 1))
def test_the_simulator_goes_by_the_same_law(
    running: int, servers: int, serial: float, coherence: float, crowding: float
) -> None:
    """A curve means the same here, over sockets, and in the simulator, in virtual time."""
    here = Curve(serial=serial, coherence=coherence, crowding=crowding)
    there = simulated.Curve(serial=serial, coherence=coherence, crowding=crowding)
    assert here.share(running, servers) == pytest.approx(there.pace(running, servers))


def test_two_servers_on_one_device_cost_extra() -> None:
    """Servers that share a device divide it, and lose a part to each other."""
    one, two = [(0.0, 1.0, 0), (0.0, 1.0, 0)], [(0.0, 1.0, 0), (0.0, 1.0, 1)]
    curve = Curve(serial=1, crowding=0.1)
    assert finished(curve, one) == pytest.approx([2, 2])
    assert finished(curve, two) == pytest.approx([2.2, 2.2])


def test_lateness_of_the_caller_does_not_add_up() -> None:
    """Work that follows a target is due after the target, not after the moment it was put in."""
    device = Device(Curve())
    device.join(0.0, 0)
    device.add(0.0, 1.0, "first")
    ((target, _),) = device.due(1.25)
    device.add(1.25, 1.0, "second", target)
    assert device.next_at() == pytest.approx(2.0)


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 5), st.integers(0, 2)), min_size=1, max_size=12),
    st.floats(0, 2),
    st.floats(0, 0.5),
)
def test_no_work_is_lost_or_done_twice(
    arrivals: list[tuple[float, float, int]], serial: float, coherence: float
) -> None:
    """Whatever the curve, each piece ends once, not before it could alone, and all end in bounded time."""
    curve = Curve(serial=serial, coherence=coherence, crowding=0.1)
    ends = finished(curve, arrivals)
    worst = curve.share(len(arrivals), 3)
    for (start, seconds, _), end in zip(arrivals, ends, strict=True):
        assert start + seconds - 1e-6 <= end <= 10 + sum(work for _, work, _ in arrivals) / worst + 1e-6

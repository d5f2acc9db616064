from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedule.stories import numbered
from tokenmill.event import FirstToken, Paced
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.order import FileOrder
from tokenmill.schedule.pull import Pull
from tokenmill.schedule.simulate import SimNode, SimRow, simulate

curves = st.builds(
    Curve, slots=st.none() | st.integers(1, 6), serial=st.floats(0, 0.5), coherence=st.sampled_from([0.0, 0.01, 0.2])
)


def ends(nodes: list[SimNode], rows: list[SimRow]) -> list[float]:
    result = simulate(Pull(FileOrder()), rows, nodes)
    return [attempt.finished for attempt in sorted(result.attempts, key=lambda attempt: attempt.row)]


def test_requests_share_a_server_equally() -> None:
    """Two requests run at the pace of two until the short one ends, then the other has the server to itself."""
    half = Curve(serial=1.0)  # two at a time have half the pace each

    assert ends([SimNode(slots=2, curve=half)], numbered([4, 10])) == [8, 14]


def test_one_that_comes_later_slows_the_other_from_then_on() -> None:
    """What was done before counts in full."""
    rows = [SimRow(row=0, tokens=10), SimRow(row=1, tokens=3, arrives=6.0)]

    assert ends([SimNode(slots=2, curve=Curve(serial=1.0))], rows) == [13, 12]


def test_hard_slots_let_the_rest_wait() -> None:
    """A server with fewer slots than it is given runs the first ones at full pace; the next starts at an end."""
    assert ends([SimNode(slots=4, curve=Curve(slots=2))], numbered([4, 6, 5, 1])) == [4, 6, 9, 7]


def test_a_server_that_changes_lets_run_what_runs() -> None:
    """Fewer slots take effect as requests end, more at once."""
    node = SimNode(slots=4, curve=Curve(slots=3), changes=((1.0, Curve(slots=1)), (7.0, Curve(slots=4))))

    assert ends([node], numbered([4, 5, 6, 2, 2, 2])) == [4, 5, 6, 8, 9, 9]


def test_servers_on_one_device_slow_each_other() -> None:
    """Two servers at work on a device have less than half of it each; alone again, one has it all."""
    curve = Curve(serial=1.0, crowding=0.25)
    together = [SimNode(curve=curve, device="gpu"), SimNode(curve=curve, device="gpu")]

    assert ends(together, numbered([4, 10])) == [10, 16]
    assert ends([SimNode(curve=curve), SimNode(curve=curve)], numbered([4, 10])) == [4, 10]


def test_progress_is_told_at_each_doubling() -> None:
    """The first token comes after the overhead, slower under load; then the second, fourth, and so on."""
    node = SimNode(slots=2, speed=2.0, overhead=0.5, curve=Curve(serial=1.0))

    result = simulate(Pull(FileOrder()), numbered([9, 9]), [node], keep_log=True)

    told = [(type(event), event.time) for event, _ in result.log if isinstance(event, FirstToken | Paced)]
    assert told[::2] == [(FirstToken, 2.0), (Paced, 3.0), (Paced, 5.0), (Paced, 9.0)]
    assert [attempt.first_token for attempt in result.attempts] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("curve", "best"),
    [(Curve(slots=4), (4, 4.0)), (Curve(serial=1.0), (1, 1.0)), (Curve(coherence=0.06), (4, 4 / 1.72))],
)
def test_where_the_throughput_is_greatest(curve: Curve, best: tuple[int, float]) -> None:
    """At the slots, at one that has everything, or at the knee."""
    assert curve.best(12) == pytest.approx(best)


@given(curves, st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 8))
def test_no_token_is_made_or_lost(curve: Curve, lengths: list[int], slots: int) -> None:
    """Tokens per second, summed over time by what ran when, are the tokens of the rows."""
    result = simulate(Pull(FileOrder()), numbered(lengths), [SimNode(slots=slots, curve=curve)])

    moments = sorted({time for one in result.attempts for time in (one.dispatched, one.finished)})
    made = 0.0
    for begin, end in pairwise(moments):
        there = sum(one.dispatched <= begin and one.finished >= end for one in result.attempts)
        running = min(there, curve.slots or slots)
        made += (end - begin) * running * curve.pace(running)
    assert made == pytest.approx(sum(lengths))

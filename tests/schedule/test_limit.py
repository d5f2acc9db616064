from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedule.stories import arrive, failed, finished, play, resized, sent, up
from schedule.sweep import in_flight_over_time
from tokenmill.event import Action, Event, FirstToken, NodeLost
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.limited import Limited
from tokenmill.schedule.order import FileOrder
from tokenmill.schedule.pull import Pull
from tokenmill.schedule.simulate import SimNode, SimRow, Simulated, simulate


def limited(rows: int = 40) -> Limited:
    strategy = Limited(Pull(FileOrder()))
    play(strategy, *arrive(*range(rows)))
    return strategy


def first_tokens(*rows: int, time: float) -> list[Event]:
    return [FirstToken(time, row, 0, 1) for row in rows]


def rows_of(actions: list[Action]) -> list[int]:
    return [row for row, _ in sent(actions)]


def test_a_first_token_finds_the_next_slot() -> None:
    """Each answer that begins lets one more request go, so the node's slots are found from below."""
    strategy = limited()

    begin = rows_of(strategy.on_event(up(slots=12)))
    then = [rows_of(each) for each in play(strategy, *first_tokens(0, time=0.1), *first_tokens(1, time=0.2))]

    assert (begin, then) == ([0], [[1], [2]])


def test_a_request_that_waits_is_the_only_one() -> None:
    """While one has no first token, no other follows, except in the place of one that ended."""
    strategy = limited()
    play(strategy, up(slots=12), *first_tokens(0, time=0.1), *first_tokens(1, time=0.2))

    assert rows_of(strategy.on_event(finished(0, time=5.0))) == [3]
    assert rows_of(strategy.on_event(first_tokens(2, time=5.1)[0])) == []
    assert rows_of(strategy.on_event(finished(1, time=6.0))) == [4]


def test_slow_start_goes_on_in_steps() -> None:
    """When a scout beyond a round number is answered at once, the number goes up to the next one."""
    strategy = limited()
    play(strategy, up(slots=12), *[first_tokens(row, time=0.1 * (row + 1))[0] for row in range(3)])

    assert rows_of(strategy.on_event(first_tokens(3, time=0.4)[0])) == [4]  # the scout beyond 4
    assert rows_of(strategy.on_event(first_tokens(4, time=0.5)[0])) == [5, 6, 7]


def test_a_stuck_request_does_not_hide_the_slots_behind_it() -> None:
    """A request that gets no first token while a later one does is stuck, not waiting; the others run on as before."""
    strategy = limited()
    play(strategy, up(slots=12), *[first_tokens(row, time=0.1 * (row + 1))[0] for row in range(3)])  # 3 is stuck
    play(strategy, finished(0, time=1.0), *first_tokens(4, time=1.1))

    assert rows_of(strategy.on_event(finished(1, time=5.0))) == [6]
    assert strategy.places(0) == 5


def test_the_ceiling_holds() -> None:
    """A node never gets more than the driver says, however well it does; a new ceiling counts at once."""
    strategy = limited()
    play(strategy, up(slots=2), *first_tokens(0, time=0.1))

    assert rows_of(strategy.on_event(first_tokens(1, time=0.2)[0])) == []
    assert rows_of(strategy.on_event(resized(slots=3, time=0.3))) == [2]
    assert rows_of(strategy.on_event(resized(slots=0, time=0.4))) == []
    assert rows_of(strategy.on_event(finished(0, time=0.5))) == []
    assert rows_of(strategy.on_event(resized(slots=3, time=0.6))) == [3]


def test_a_node_that_queues_by_itself_is_left_alone() -> None:
    """Look-ahead says that the node knows its slots: it is filled at once."""
    strategy = limited()

    assert rows_of(strategy.on_event(up(slots=4, look_ahead=2))) == [0, 1, 2, 3, 4, 5]
    assert strategy.places(0) is None


def test_a_node_that_refuses_gets_fewer() -> None:
    """A busy node had no place for the last request, so it gets none in its place."""
    strategy = limited()
    play(strategy, up(slots=12), *[first_tokens(row, time=0.1 * (row + 1))[0] for row in range(3)])

    assert rows_of(strategy.on_event(failed(3, kind="busy", time=0.35))) == [4]
    assert strategy.places(0) == 4


def test_a_node_that_returns_is_found_out_again() -> None:
    """After a loss the node starts with what a scout finds; ends of what ran before count nothing."""
    strategy = limited()
    play(strategy, up(slots=12), *first_tokens(0, time=0.1), *first_tokens(1, time=0.2), NodeLost(1.0, 0))

    assert len(rows_of(strategy.on_event(up(slots=12, time=2.0)))) == 2
    assert rows_of(strategy.on_event(finished(0, time=2.1))) == []


def play_on(node: SimNode, rows: int = 300) -> Simulated:
    lengths = [20 + 37 * row % 100 for row in range(rows)]
    return simulate(
        Limited(Pull(FileOrder())), [SimRow(row=row, tokens=tokens) for row, tokens in enumerate(lengths)], [node]
    )


def test_the_limit_follows_the_capacity() -> None:
    """From 8 slots to 1 it is down two answers after what ran before, and back at 8 within one."""
    node = SimNode(
        slots=32,
        speed=25,
        overhead=0.1,
        curve=Curve(slots=8),
        changes=((40.0, Curve(slots=1)), (80.0, Curve(slots=8))),
    )

    result = play_on(node)

    levels = in_flight_over_time(result)
    before = [level for time, level in levels if 3 < time < 40]
    assert set(before) == {9}
    drained = sorted(one.finished for one in result.attempts if one.finished > 40)[9]
    low = [level for time, level in levels if drained <= time < 80]
    assert set(low) == {2}
    answer = min(one.finished for one in result.attempts if one.finished > 80)
    after = [level for time, level in levels if time > answer + 2]
    assert max(after) == after[0] == 9


@pytest.mark.parametrize(("slots", "answers", "efficiency"), [(4, 300, 0.98), (16, 1500, 0.96), (32, 3000, 0.88)])
def test_slots_are_found_though_prompts_take_as_long_as_answers(slots: int, answers: int, efficiency: float) -> None:
    """With as much time spent on prompts as on answers, the node is full nearly all the time, slow start included."""
    node = SimNode(slots=256, speed=100, overhead=0.6, curve=Curve(slots=slots))

    result = play_on(node, answers)

    work = sum(node.work(20 + 37 * row % 100) for row in range(answers))
    assert work / slots / result.makespan > efficiency


@settings(max_examples=60, deadline=None)
@given(
    slots=st.integers(1, 20),
    speed=st.sampled_from([5.0, 25.0, 100.0]),
    overhead=st.floats(0.01, 0.5),
    ceiling=st.integers(1, 40),
)
def test_never_more_than_one_waits_once_settled(slots: int, speed: float, overhead: float, ceiling: int) -> None:
    """On any server with hard slots: after four answers a slot, at most one beyond the slots."""
    result = play_on(SimNode(slots=ceiling, speed=speed, overhead=overhead, curve=Curve(slots=slots)), 200)

    settled = sorted(one.finished for one in result.attempts)[4 * slots]
    beyond = [level - slots for time, level in in_flight_over_time(result) if time > settled]
    assert max(beyond, default=0) <= 1

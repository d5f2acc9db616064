from __future__ import annotations

import pytest

from schedule.stories import arrive, cancelled, finished, numbered, play, sent, up
from tokenmill.event import Failed, NodeLost, NodeUp, Woke
from tokenmill.schedule import make
from tokenmill.schedule.order import FileOrder, LongestFirst
from tokenmill.schedule.pull import Pull, by_priority
from tokenmill.schedule.rate import RateLimits
from tokenmill.schedule.simulate import SimNode, SimRow, simulate


def test_a_free_place_takes_the_next_row() -> None:
    """The node that ends a row gets the next one of the file."""
    strategy = Pull(FileOrder())
    play(strategy, *arrive(*range(5)), up(0), up(1))

    assert [sent(each) for each in play(strategy, finished(1, 1), finished(0, 0))] == [[(2, 1)], [(3, 0)]]


def test_rows_go_to_the_least_loaded_node() -> None:
    """Load is rows in flight per slot, so a node with twice the slots gets twice the rows."""
    actions = play(Pull(FileOrder()), up(0, slots=2), up(1, slots=4), *arrive(*range(6)))

    nodes = [node for each in actions for _, node in sent(each)]
    assert nodes == [0, 1, 1, 0, 1, 1]


def test_the_last_rows_go_where_they_end_soonest() -> None:
    """When more places are free than rows wait, the node whose answers came quickest is next; then the others."""
    strategy = Pull(FileOrder())
    play(strategy, *arrive(0, 1), up(0), up(1), finished(1, 1, time=1.0), finished(0, 0, time=4.0))

    assert [sent(each) for each in play(strategy, *arrive(2, 3, time=5.0))] == [[(2, 1)], [(3, 0)]]


def test_a_quick_node_is_not_loaded_beyond_its_slots() -> None:
    """A slow node with a free slot is better than a wait in the queue of the quick one."""
    strategy = Pull(FileOrder())
    play(strategy, *arrive(0, 1), up(0, look_ahead=4), up(1, look_ahead=4))
    play(strategy, finished(1, 1, time=1.0), finished(0, 0, time=40.0))

    assert [sent(each) for each in play(strategy, *arrive(2, 3, time=50.0))] == [[(2, 1)], [(3, 0)]]


def test_a_single_node_is_filled_to_its_look_ahead() -> None:
    """A node alone gets slots + look_ahead rows, down to the last."""
    actions = play(Pull(FileOrder()), *arrive(*range(4)), up(0, slots=2, look_ahead=2))

    assert sent(actions[-1]) == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_the_last_rows_are_not_queued_ahead() -> None:
    """With several nodes, rows are queued ahead only while more wait than there are slots."""
    strategy = Pull(FileOrder())
    actions = play(strategy, up(0, look_ahead=4), up(1, look_ahead=4), *arrive(*range(6)))

    assert [sent(each) for each in actions[2:]] == [[(0, 0)], [(1, 1)], [], [], [(2, 0)], [(3, 1)]]
    assert sent(strategy.on_event(finished(1, 1))) == []
    assert sent(strategy.on_event(finished(3, 1))) == [(4, 1)]


def test_look_ahead_does_not_strand_rows_on_a_slow_node() -> None:
    """Two nodes of unlike speed end no later with look-ahead than a row of the slow one after the ideal."""
    slow, fast = SimNode(speed=1.0, look_ahead=1), SimNode(speed=10.0, look_ahead=1)

    result = simulate(Pull(FileOrder()), numbered([10] * 44), [slow, fast])

    assert result.makespan <= 44 * 10 / 11 + 10


def test_a_row_that_comes_back_before_its_end_frees_its_own_place() -> None:
    """Arriving again while still in flight, a row waits for its end, though another node has a place free."""
    strategy = Pull(FileOrder())
    play(strategy, up(0), up(1), *arrive(0))

    back = play(strategy, *arrive(0), cancelled(0, 0))

    assert [sent(each) for each in back] == [[], [(0, 0)]]
    assert [sent(each) for each in play(strategy, *arrive(1, 2))] == [[(1, 1)], []]
    assert sent(strategy.on_event(finished(0, 0))) == [(2, 0)]


def test_a_returning_node_starts_empty() -> None:
    """The end of a row that ran before the loss frees no place on the node that came back."""
    strategy = Pull(FileOrder())
    play(strategy, *arrive(0, 1, 2), up(0), NodeLost(1.0, 0))

    actions = play(strategy, up(0, time=2.0), finished(0, 0), finished(1, 0))

    assert [sent(each) for each in actions] == [[(1, 0)], [], [(2, 0)]]


def test_answers_correct_the_order() -> None:
    """What answers took moves rows of the same group ahead of rows that are predicted longer."""
    strategy = Pull(LongestFirst())
    play(strategy, *arrive(*range(9), length=300.0), *arrive(9, length=100.0))
    play(strategy, *arrive(*range(20, 26), length=200.0, group=1), *arrive(26, length=80.0, group=1), up(0))

    row, seen = 0, []
    while row != 9:
        seen.append(row)
        [(row, _)] = sent(strategy.on_event(finished(row, tokens=1000 if row >= 20 else 300)))

    assert seen == [*range(9), *range(20, 27)]


def test_the_list_of_open_nodes_stays_short() -> None:
    """A node that never fills up doesn't pile up entries."""
    strategy = Pull(FileOrder())
    play(strategy, up(0, slots=100), *arrive(*range(40)))
    for row in range(40, 2000):
        play(strategy, *arrive(row), finished(row - 40))

    assert len(strategy._open) <= 4 + 65


def test_nodes_of_a_smaller_priority_go_first() -> None:
    """Rows go to the first nodes until all their slots are taken; a slot there that is free again goes first again."""
    strategy = Pull(FileOrder(), by_priority)
    ups = [NodeUp(0.0, 0, 4, priority=1), NodeUp(0.0, 1, 1, priority=0), NodeUp(0.0, 2, 1, priority=0)]
    actions = play(strategy, *ups, *arrive(*range(4)))

    assert [node for each in actions for _, node in sent(each)] == [1, 2, 0, 0]
    play(strategy, finished(0, 1))
    assert sent(strategy.on_event(arrive(4)[0])) == [(4, 1)]


def test_a_free_slot_comes_before_a_better_rank() -> None:
    """A row isn't queued ahead on a first node while a second one has a slot free."""
    strategy = Pull(FileOrder(), by_priority)
    play(strategy, NodeUp(0.0, 0, 1, 4, priority=0), NodeUp(0.0, 1, 2, 0, priority=5))

    assert [node for each in play(strategy, *arrive(*range(3))) for _, node in sent(each)] == [0, 1, 1]


def test_nodes_with_a_gpu_go_first() -> None:
    """With `gpu-first` a node that computes elsewhere gets only what finds no slot on a GPU."""
    rows, nodes = numbered([4] * 12), [SimNode(slots=2), SimNode(slots=2, gpu=True)]

    result = simulate(make("gpu-first"), rows, nodes)

    assert sorted(attempt.node for attempt in result.attempts if attempt.dispatched == 0) == [0, 0, 1, 1]
    late = simulate(make("gpu-first"), [SimRow(row=row, tokens=4, arrives=9.0 * row) for row in range(1, 6)], nodes)
    assert {attempt.node for attempt in late.attempts} == {1}


@pytest.mark.parametrize("strategy", ["least-loaded", "priority"])
def test_ranks_survive_the_layers(strategy: str) -> None:
    """What a node is known to be reaches the strategy inside, however many layers are around it, also after a rest."""
    fleet = make(strategy, rates=RateLimits(requests=1e6))
    rests = Failed(1.0, 0, 1, 1, "busy", "full", 5.0)
    play(fleet, NodeUp(0.0, 0, 2, priority=1), NodeUp(0.0, 1, 2, priority=0), *arrive(0), rests, Woke(9.0))
    fleet.on_event(finished(0, 0, lease=2) if strategy != "priority" else finished(0, 0, lease=2, time=9.5))

    assert sent(fleet.on_event(arrive(1, time=10.0)[0])) == [(1, 1 if strategy == "priority" else 0)]

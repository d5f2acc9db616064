from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from schedule.stories import arrive, finished, numbered, play, sent, up
from tokenmill.event import Action, NodeLost
from tokenmill.schedule.order import rank_in_file
from tokenmill.schedule.simulate import SimNode, simulate
from tokenmill.schedule.stealing import Stealing


def test_an_idle_worker_steals_the_back_of_the_longest_queue() -> None:
    """The owner takes the front of its queue, the thief the back of the longest; the theft is counted."""
    strategy = Stealing(rank_in_file)
    play(strategy, up(0, slots=3), *arrive(*range(11)))  # 0: 3 6 9   1: 4 7 10   2: 5 8

    own = play(strategy, finished(2), finished(5))
    robbed = play(strategy, finished(8), finished(9), finished(10))

    assert [sent(each) for each in own] == [[(5, 0)], [(8, 0)]]
    assert [sent(each) for each in robbed] == [[(9, 0)], [(10, 0)], [(6, 0)]]
    assert strategy.steals == {(0, 0): 0, (0, 1): 0, (0, 2): 3}


def test_a_node_that_joins_steals() -> None:
    """A node that comes up in the middle takes rows from the queues of the others at once."""
    strategy = Stealing(rank_in_file)
    play(strategy, up(0), *arrive(0, 1, 2, 3))

    assert sent(strategy.on_event(up(1, slots=2))) == [(3, 1), (2, 1)]


def test_an_idle_worker_is_there_for_the_next_row() -> None:
    """A row that arrives for a busy worker is stolen by an idle one in the same breath."""
    strategy = Stealing(rank_in_file)
    play(strategy, up(0), up(1), *arrive(0, 1), finished(1, 1))

    assert [sent(each) for each in play(strategy, *arrive(2, 3))] == [[(2, 1)], []]


def test_each_idle_worker_steals_once() -> None:
    """A worker that has stolen is idle no more: the next row goes to the next idle one."""
    strategy = Stealing(rank_in_file)
    play(strategy, up(0, slots=2), up(1), up(2), *arrive(*range(4)), finished(2, 1), finished(3, 2))

    assert [sent(each) for each in play(strategy, *arrive(4, 5, 6))] == [[(4, 1)], [(5, 2)], []]


def test_a_lost_worker_steals_nothing() -> None:
    """The end of a row on a lost node makes nobody idle there."""
    strategy = Stealing(rank_in_file)
    play(strategy, up(0), up(1), *arrive(*range(6)), NodeLost(1.0, 0))

    assert strategy.on_event(finished(0, 0)) == []


def test_an_idle_worker_that_is_lost_steals_nothing() -> None:
    """A row that arrives after an idle node was lost waits for the node that is left."""
    strategy = Stealing(rank_in_file)
    play(strategy, up(0), up(1), *arrive(0, 1), finished(1, 1), NodeLost(1.0, 1))

    assert [sent(each) for each in play(strategy, *arrive(2, 3), finished(0))] == [[], [], [(2, 0)]]


def test_look_ahead_is_not_worth_a_theft() -> None:
    """A worker that has a row in flight doesn't take another's row only to queue it in the engine."""
    strategy = Stealing(rank_in_file)
    play(strategy, up(0, look_ahead=1), up(1, look_ahead=1), *arrive(*range(7)))  # waiting: 4 6 and 5

    assert [sent(each) for each in play(strategy, finished(1, 1), finished(3, 1))] == [[(5, 1)], []]
    assert sent(strategy.on_event(finished(5, 1))) == [(6, 1)]


def test_queues_of_a_lost_node_go_to_the_others() -> None:
    """Rows that waited for a lost node are answered by the workers that are left, in order."""
    strategy = Stealing(rank_in_file)
    play(strategy, up(0), up(1), *arrive(*range(6)), NodeLost(1.0, 0))

    after = play(strategy, *[finished(row, 1) for row in (1, 2, 3, 4)])

    assert [sent(each) for each in after] == [[(2, 1)], [(3, 1)], [(4, 1)], [(5, 1)]]


def test_a_slot_that_returns_is_another_worker() -> None:
    """A node lost and up again has equal entries in the search for the longest queue, which tells them apart."""
    strategy = Stealing(rank_in_file)
    play(strategy, up(0), up(1), *arrive(*range(8)), finished(0, 0))
    for _ in range(3):
        play(strategy, NodeLost(1.0, 0), up(0), *arrive(*range(10, 16)))

    flying, seen = [(1, 1)], set()
    while flying:
        row, node = flying.pop()
        seen.add(row)
        flying += sent(strategy.on_event(finished(row, node)))

    assert {5, 7, 10, 15} <= seen


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 7))
def test_no_worker_idles_while_a_row_waits(tokens: list[int], slots: int) -> None:
    """On equal slots the makespan is within Graham's bound for any greedy schedule, and every row is answered."""
    result = simulate(Stealing(rank_in_file), numbered(tokens), [SimNode(slots=slots)])

    assert result.unfinished == 0
    assert result.makespan <= sum(tokens) / slots + (1 - 1 / slots) * max(tokens) + 1e-6


@given(st.lists(st.integers(0, 4), max_size=80))
def test_the_victim_is_always_the_longest(ends: list[int]) -> None:
    """Whatever has happened before, a theft shortens a queue that no other was longer than."""
    strategy = Stealing(rank_in_file)
    play(strategy, up(0, slots=5), *arrive(*range(60)))
    workers = strategy._crew.workers
    running: dict[int, int] = {worker: worker for worker in range(5)}
    for worker in ends:
        if worker not in running:
            continue
        before = [len(one.lane) for one in workers]
        actions: list[Action] = strategy.on_event(finished(running.pop(worker)))
        if actions:
            running[worker] = sent(actions)[0][0]
            source = next(at for at, one in enumerate(workers) if len(one.lane) < before[at])
            assert source == worker if before[worker] else before[source] == max(before)

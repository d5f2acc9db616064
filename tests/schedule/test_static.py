from __future__ import annotations

from schedule.stories import arrive, finished, numbered, play, sent, up
from tokenmill.event import NodeLost
from tokenmill.schedule.order import rank_by_length, rank_in_file
from tokenmill.schedule.simulate import SimNode, simulate
from tokenmill.schedule.static import Static


def owners(strategy: Static, rows: int, nodes: int) -> list[int]:
    """Node that answered each row, when all rows and nodes are there from the start."""
    result = simulate(strategy, numbered([3] * rows), [SimNode()] * nodes)
    return [attempt.node for attempt in sorted(result.attempts, key=lambda one: one.row)]


def test_round_robin() -> None:
    """Row i goes to worker i mod T."""
    assert owners(Static(rank_in_file), 10, 3) == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def test_blocks() -> None:
    """The first part of the rows goes to the first worker, and so on; rows beyond the number go round robin."""
    strategy = Static(rank_in_file, 9)
    first = play(strategy, up(0), up(1), up(2), *arrive(*range(9)))
    rest = play(strategy, *arrive(9, 10, 11))

    assert [sent(each) for each in first if each] == [[(0, 0)], [(3, 1)], [(6, 2)]]
    assert rest == [[], [], []]
    done = [play(strategy, finished(row, node)) for row, node in [(0, 0), (1, 0), (2, 0)]]
    assert [sent(each) for [each] in done] == [[(1, 0)], [(2, 0)], [(9, 0)]]


def test_blocks_of_rows_that_came_before_the_nodes() -> None:
    """A node that comes up later has blocks of what waits then; rows in flight count as the first of the deal."""
    assert owners(Static(rank_in_file, 6), 6, 1) == [0] * 6
    strategy = Static(rank_in_file, 8)
    actions = play(strategy, *arrive(*range(8)), up(0, slots=2), up(1, slots=2))

    assert [sent(each) for each in actions[8:]] == [[(0, 0), (4, 0)], [(3, 1), (6, 1)]]


def test_nothing_moves_to_an_idle_worker() -> None:
    """A worker whose queue is empty stays idle though rows wait for another."""
    strategy = Static(rank_in_file)
    play(strategy, up(0), up(1), *arrive(0, 1, 2))

    assert strategy.on_event(finished(1, 1)) == []
    assert sent(strategy.on_event(finished(0, 0))) == [(2, 0)]


def test_rows_of_a_lost_worker_are_dealt_anew() -> None:
    """What waited for a lost node is spread over the others."""
    strategy = Static(rank_in_file)
    play(strategy, up(0), up(1), up(2), *arrive(*range(9)), NodeLost(1.0, 1))

    after = play(strategy, finished(0, 0), finished(2, 2), finished(3, 0), finished(4, 2), finished(5, 0))

    assert [sent(each) for each in after] == [[(3, 0)], [(4, 2)], [(5, 0)], [(6, 2)], [(7, 0)]]


def test_look_ahead_is_shared_by_the_slots() -> None:
    """Each worker may have its share of the node's look-ahead in flight beside its own row."""
    actions = play(Static(rank_in_file), up(0, slots=2, look_ahead=1), *arrive(*range(6)))

    assert [sent(each) for each in actions[1:]] == [[(0, 0)], [(1, 0)], [(2, 0)], [], [], []]


def test_a_worker_takes_its_longest_row_first() -> None:
    """With the rank by length, each worker's own queue is longest first."""
    strategy = Static(rank_by_length)
    lengths = [1.0, 1.0, 3.0, 5.0, 7.0]
    play(strategy, up(0), *[event for row, length in enumerate(lengths) for event in arrive(row, length=length)])

    assert [sent(strategy.on_event(finished(row)))[0][0] for row in (0, 4, 3, 2)] == [4, 3, 2, 1]

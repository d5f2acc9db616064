from __future__ import annotations

from schedule.stories import arrive, failed, finished, play, sent, up
from tokenmill.event import NodeLost
from tokenmill.schedule.order import FileOrder
from tokenmill.schedule.sequential import Sequential


def test_second_row_waits_for_the_first() -> None:
    """Sequential never has two rows in flight, whatever a node offers."""
    actions = play(Sequential(FileOrder()), up(0, slots=8, look_ahead=8), *arrive(0, 1), finished(0), failed(1))

    assert [sent(each) for each in actions] == [[], [(0, 0)], [], [(1, 0)], []]


def test_it_stays_with_the_first_node() -> None:
    """The lowest-numbered node that is up answers; another takes over when it is lost."""
    actions = play(
        Sequential(FileOrder()),
        *arrive(0, 1, 2),
        *[up(1), up(0), finished(0, 1), failed(1, 0), NodeLost(1.0, 0), finished(2, 0)],
    )

    assert [sent(each) for each in actions[3:]] == [[(0, 1)], [], [(1, 0)], [(2, 0)], [], []]


def test_a_row_on_a_lost_node_still_counts() -> None:
    """Until the end of its row is reported, a lost node may still be running it."""
    actions = play(Sequential(FileOrder()), *arrive(0, 1), up(0), up(1), NodeLost(1.0, 0), failed(0, 0))

    assert [sent(each) for each in actions[2:]] == [[(0, 0)], [], [], [(1, 1)]]

from __future__ import annotations

import pytest

from schedule.stories import numbered
from tokenmill.event import (
    Action,
    Arrived,
    Cancel,
    Cancelled,
    Dispatch,
    Event,
    Finished,
    FirstToken,
    NodeUp,
    Paced,
    SetAside,
    WakeAt,
    Woke,
)
from tokenmill.schedule import make
from tokenmill.schedule.simulate import Faults, Mishap, Outage, SimNode, SimRow, simulate


class Told:
    """A strategy that answers the nth event of a kind with fixed actions."""

    def __init__(self, answers: dict[tuple[type, int], list[Action]]) -> None:
        self.answers = answers
        self.seen: list[Event] = []

    def on_event(self, event: Event, /) -> list[Action]:
        self.seen.append(event)
        number = sum(type(one) is type(event) for one in self.seen)
        return self.answers.get((type(event), number), [])


def test_time_is_overhead_and_tokens() -> None:
    """A row takes the node's overhead and its tokens over the speed; the first token comes after one of them."""
    result = simulate(make(), [SimRow(row=0, tokens=10, arrives=2.0)], [SimNode(speed=5.0, overhead=0.5)])

    [attempt] = result.attempts
    assert (attempt.dispatched, attempt.first_token, attempt.finished) == (2.0, 2.7, 4.5)
    assert (attempt.outcome, attempt.output_tokens, attempt.lease) == ("answered", 10, 1)
    assert result.makespan == 4.5


def test_look_ahead_waits_inside_the_node() -> None:
    """A row beyond the slots starts when a slot of its node is free, in the order of dispatch."""
    result = simulate(make(), numbered([4, 2, 2]), [SimNode(look_ahead=2)])

    assert [(attempt.dispatched, attempt.finished) for attempt in result.attempts] == [(0, 4), (0, 6), (0, 8)]


def test_an_outage_fails_what_is_in_flight_then_loses_the_node() -> None:
    """Each row in flight fails before the node is lost; the node comes back when the outage ends."""
    result = simulate(
        make(), numbered([10, 10]), [SimNode(slots=2)], Faults(outages=[Outage(node=0, down=4, up=9)]), keep_log=True
    )

    progress = (Woke, Arrived, FirstToken, Paced)
    told = [(type(event).__name__, event.time) for event, _ in result.log if not isinstance(event, progress)]
    assert told == [
        ("NodeUp", 0),
        ("Failed", 4),
        ("Failed", 4),
        ("NodeLost", 4),
        ("NodeUp", 9),
        ("Finished", 19),
        ("Finished", 19),
    ]


def test_overlapping_outages_end_with_the_last() -> None:
    """A node in two outages at a time is up again only after both."""
    outages = [Outage(node=0, down=0, up=5), Outage(node=0, down=3, up=8)]

    result = simulate(make(), numbered([1]), [SimNode()], Faults(outages=outages))

    assert result.makespan == 9


def test_a_crash_takes_the_node_down_until_its_restart() -> None:
    """A poison row crashes its node half-way; the node is up again after its restart time."""
    result = simulate(make(), numbered([4]), [SimNode(restart=3.0)], Faults(poison=frozenset({0})), keep_log=True)

    ups = [event.time for event, _ in result.log if isinstance(event, NodeUp)]
    assert ups == [0, 5, 10, 15]
    assert result.set_aside[0].kind == "poison"


def test_a_late_answer_is_an_event_of_the_old_lease() -> None:
    """After its failure an attempt may still be answered, with the lease that is void by then."""
    mishap = Mishap(row=0, kind="timeout", part=0.5, late=1.5)

    result = simulate(make(), numbered([4]), [SimNode()], Faults(mishaps=[mishap]), keep_log=True)

    answers = [(event.time, event.lease) for event, _ in result.log if isinstance(event, Finished)]
    assert answers[0] == (3.5, 1)
    assert answers[1][1] == 2
    assert [attempt.outcome for attempt in result.attempts] == ["failed", "answered"]


def test_a_node_that_never_returns_leaves_rows_unfinished() -> None:
    """Without any node the rest of the rows stays unfinished, which is for the driver to see."""
    result = simulate(make(), numbered([1, 1, 5]), [SimNode()], Faults(outages=[Outage(node=0, down=3)]))

    assert result.unfinished == 1


def test_cancel_ends_an_attempt_at_once() -> None:
    """A cancelled attempt frees its slot for the next row inside the node, and its end never comes."""
    strategy = Told({(NodeUp, 1): [Dispatch(0, 0), Dispatch(1, 0), WakeAt(2.0)], (Woke, 1): [Cancel(0)]})

    result = simulate(strategy, numbered([9, 3]), [SimNode(look_ahead=1)])

    assert [(one.row, one.outcome, one.finished) for one in result.attempts] == [
        (0, "cancelled", 2),
        (1, "answered", 5),
    ]
    assert [type(event) for event in strategy.seen[-4:]] == [Cancelled, FirstToken, Paced, Finished]


def test_cancel_of_a_row_that_waits_inside_the_node() -> None:
    """Cancelling a row that hasn't started takes it out of the node's queue."""
    strategy = Told({(NodeUp, 1): [Dispatch(0, 0), Dispatch(1, 0), Cancel(1)]})

    result = simulate(strategy, numbered([5, 5]), [SimNode(look_ahead=1)])

    assert [(one.row, one.outcome) for one in result.attempts] == [(1, "cancelled"), (0, "answered")]


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ({(NodeUp, 1): [Dispatch(0, 0), Dispatch(0, 0)]}, "row 0 has 2 live attempts"),
        ({(NodeUp, 1): [Dispatch(0, 0), Dispatch(1, 0), Dispatch(2, 0)]}, "node 0 is overfull"),
        ({(NodeUp, 1): [Dispatch(0, 0)], (Finished, 1): [Dispatch(0, 0)]}, "row 0 was sent again after its answer"),
        ({(NodeUp, 1): [SetAside(0, "refused", ""), Dispatch(0, 0)]}, "row 0 was sent after it was set aside"),
        ({(NodeUp, 1): [Dispatch(0, 0), SetAside(0, "refused", "")]}, "row 0 was set aside in flight"),
        ({(NodeUp, 1): [SetAside(0, "empty", ""), SetAside(0, "empty", "")]}, "row 0 was set aside twice"),
    ],
)
def test_wrong_actions_are_refused(answers: dict[tuple[type, int], list[Action]], text: str) -> None:
    """The simulator stops at an action that no correct strategy takes."""
    with pytest.raises(AssertionError, match=text):
        simulate(Told(answers), numbered([5, 5, 5]), [SimNode(look_ahead=1)])

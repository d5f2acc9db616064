"""Second attempts for stragglers: when, where, at what price, and that the strategy inside never notices."""

from __future__ import annotations

from tokenmill.event import (
    Action,
    Answer,
    Arrived,
    Cancelled,
    Dispatch,
    Event,
    Failed,
    Finished,
    NodeUp,
    WakeAt,
    Woke,
)
from tokenmill.schedule.hedge import Hedged, HedgePolicy
from tokenmill.schedule.order import FileOrder
from tokenmill.schedule.pull import Pull
from tokenmill.schedule.supervisor import Supervisor

A, B = 0, 1
POLICY = HedgePolicy(quantile=0.95, budget=1.0, least=4, window=10)


def answer(tokens: int = 10) -> Answer:
    return Answer(text="", finish_reason="stop", prompt_tokens=1, output_tokens=tokens)


def done(time: float, row: int, node: int, lease: int = 1) -> Finished:
    return Finished(time, row, node, lease, answer())


def play(strategy: Hedged, *events: Event) -> list[list[Action]]:
    return [strategy.on_event(event) for event in events]


def sent(strategy: Hedged, event: Event) -> list[Action]:
    """The dispatches alone, without the wishes to be woken."""
    return [action for action in strategy.on_event(event) if isinstance(action, Dispatch)]


def at_the_tail(policy: HedgePolicy = POLICY) -> Hedged:
    """Rows 0 to 5 on two nodes of one slot each; 0 to 4 took about a second each, and 5 runs on B since 2.0."""
    strategy = Hedged(Pull(FileOrder()), policy)
    play(strategy, *(Arrived(0.0, row) for row in range(6)), NodeUp(0.0, A, 1), NodeUp(0.0, B, 1))
    play(strategy, done(1.0, 0, A), done(1.0, 1, B), done(2.0, 2, A), done(2.0, 3, B), done(2.9, 4, A))
    return strategy


def test_a_straggler_gets_a_second_attempt_elsewhere() -> None:
    """A row that took longer than nearly all before it is sent to the other node, which has a place free."""
    assert at_the_tail().on_event(Woke(3.1)) == [Dispatch(5, A)]


def test_no_second_attempt_before_it_is_late() -> None:
    """Until then the strategy only asks to be woken, once, however often others are."""
    strategy = at_the_tail()
    assert play(strategy, NodeUp(2.91, 2, 1), Woke(2.92), Woke(2.93), NodeUp(2.94, 3, 1)) == [[], [], [], []]
    assert strategy.on_event(Woke(2.9995)) == [WakeAt(3.0)]  # a timer that rang early was the strategy's own


def test_nothing_is_hedged_while_rows_wait() -> None:
    """Places go to rows that were not tried yet, never to second attempts."""
    strategy = at_the_tail()
    actions = play(strategy, Arrived(2.95, 6), Arrived(2.95, 7), Woke(9.0))
    assert actions == [[Dispatch(6, A)], [], []]


def test_a_row_that_failed_and_rests_does_not_wait_for_a_place() -> None:
    """A back-off at the end of the run keeps no straggler from its second attempt."""
    strategy = Hedged(Supervisor(Pull(FileOrder())), POLICY)
    play(strategy, *(Arrived(0.0, row) for row in range(6)), NodeUp(0.0, A, 1), NodeUp(0.0, B, 1))
    play(strategy, done(1.0, 0, A), done(1.0, 1, B), done(2.0, 2, A), done(2.0, 3, B))
    strategy.on_event(Failed(2.9, 4, A, 1, "transient"))

    assert Dispatch(5, A) in strategy.on_event(done(2.91, 99, A)) + strategy.on_event(Woke(3.1))


def test_the_quickest_node_gets_the_second_attempt() -> None:
    """Of the nodes with a free place, it goes to the one whose answers came soonest."""
    strategy = Hedged(Pull(FileOrder()), POLICY)
    play(strategy, *(Arrived(0.0, row) for row in range(7)), *(NodeUp(0.0, node, 1) for node in (A, B, 2)))
    play(strategy, done(0.5, 2, 2), done(0.9, 3, 2), done(1.2, 0, A), done(1.3, 1, B), done(1.4, 4, 2), done(2.0, 5, A))

    assert sent(strategy, Woke(9.0)) == [Dispatch(6, 2)]


def test_the_first_answer_wins_and_the_loser_keeps_its_place_until_it_ended() -> None:
    """After the second attempt won, the node of the first is full until the driver has ended the loser there."""
    strategy = at_the_tail()
    play(strategy, Woke(3.1), done(4.0, 5, A, 2))
    assert sent(strategy, Arrived(4.1, 6)) == [Dispatch(6, A)]
    assert sent(strategy, Arrived(4.1, 7)) == []
    assert sent(strategy, Cancelled(4.2, 5, B, 1)) == [Dispatch(7, B)]


def test_the_first_attempt_may_win_too() -> None:
    """Then the second one's place is taken until it has ended."""
    strategy = at_the_tail()
    play(strategy, Woke(3.1), done(4.0, 5, B))
    assert sent(strategy, Arrived(4.1, 6)) == [Dispatch(6, B)]
    assert sent(strategy, Arrived(4.1, 7)) == []
    assert sent(strategy, Cancelled(4.2, 5, A, 2)) == [Dispatch(7, A)]


def test_a_failed_second_attempt_costs_nothing() -> None:
    """The first goes on, its answer counts, and the row isn't hedged again."""
    strategy = at_the_tail()
    actions = play(strategy, Woke(3.1), Failed(3.2, 5, A, 2, "transient"), Woke(9.0), done(9.5, 5, B))
    assert actions[1:] == [[], [], []]
    assert sent(strategy, Arrived(10.0, 6)) in ([Dispatch(6, A)], [Dispatch(6, B)])


def test_a_failed_first_attempt_is_no_failure_while_the_second_runs() -> None:
    """The strategy inside hears one end: the answer."""
    strategy = at_the_tail()
    actions = play(strategy, Woke(3.1), Failed(3.2, 5, B, 1, "timeout"), done(4.0, 5, A, 2))
    assert actions[1:] == [[], []]
    assert sent(strategy, Arrived(5.0, 6)) == [Dispatch(6, A)]
    assert sent(strategy, Arrived(5.0, 7)) == [Dispatch(7, B)]


def test_both_attempts_fail() -> None:
    """The inner strategy hears of one failure, on the node it had chosen."""
    heard: list[Event] = []

    class Listening(Pull):
        def on_event(self, event: Event, /) -> list[Action]:
            heard.append(event)
            return super().on_event(event)

    strategy = Hedged(Listening(FileOrder()), POLICY)
    play(strategy, *(Arrived(0.0, row) for row in range(6)), NodeUp(0.0, A, 1), NodeUp(0.0, B, 1))
    play(strategy, done(1.0, 0, A), done(1.0, 1, B), done(2.0, 2, A), done(2.0, 3, B), done(2.9, 4, A))
    play(strategy, Woke(3.1), Failed(3.2, 5, B, 1, "timeout"), Failed(3.3, 5, A, 2, "transient"))
    assert [event for event in heard if isinstance(event, Failed)] == [Failed(3.3, 5, B, 2, "transient")]


def test_the_budget_holds() -> None:
    """Beyond the first, second attempts never cost more than their share of the tokens answered so far."""
    strategy = at_the_tail(HedgePolicy(budget=0.01, least=4, window=10))
    assert sent(strategy, Woke(3.1)) == [Dispatch(5, A)]
    play(strategy, done(3.2, 5, A, 2), Cancelled(3.3, 5, B, 1), Arrived(3.4, 6))
    assert sent(strategy, Woke(60.0)) == []

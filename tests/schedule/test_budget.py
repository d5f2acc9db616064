"""A run that may spend only so much stops cleanly, and not before it must."""

from __future__ import annotations

import pytest

from tokenmill.event import Action, Answer, Arrived, Cancelled, Dispatch, Event, Failed, Finished, NodeUp, Stop
from tokenmill.request import Usage
from tokenmill.schedule.budget import Budget, Budgeted, Spent
from tokenmill.schedule.order import FileOrder
from tokenmill.schedule.pull import Pull

NODE = 0


def done(row: int, read: int = 4, written: int = 6) -> Finished:
    answer = Answer(text="", finish_reason="stop", prompt_tokens=read, output_tokens=written)
    return Finished(1.0, row, NODE, 1, answer)


def start(
    budget: Budget, *, rows: int = 9, slots: int = 1, spent: Spent | None = None
) -> tuple[Budgeted, list[Action]]:
    strategy = Budgeted(Pull(FileOrder()), budget, spent or Spent())
    events: list[Event] = [*(Arrived(0.0, row) for row in range(rows)), NodeUp(0.0, NODE, slots)]
    return strategy, [action for event in events for action in strategy.on_event(event)]


def test_the_run_stops_before_the_budget_is_exceeded() -> None:
    """Ten tokens an answer and a budget of 35: the fourth request isn't sent."""
    strategy, first = start(Budget(tokens=35))
    assert first == [Dispatch(0, NODE)]
    assert strategy.on_event(done(0)) == [Dispatch(1, NODE)]
    assert strategy.on_event(done(1)) == [Dispatch(2, NODE)]
    (stop,) = strategy.on_event(done(2))
    assert isinstance(stop, Stop)
    assert "35 tokens" in stop.reason
    assert "30 so far" in stop.reason


def test_what_is_in_flight_counts() -> None:
    """With three in flight the budget ends three answers earlier."""
    strategy, _ = start(Budget(tokens=45), slots=3)
    assert strategy.on_event(done(0)) == [Dispatch(3, NODE)]
    (stop,) = strategy.on_event(done(1))
    assert isinstance(stop, Stop)


def test_earlier_sessions_count() -> None:
    """A resumed run goes on with what is left of its budget."""
    _, actions = start(Budget(tokens=35), spent=Spent(read=12, written=18, answers=3))
    assert [type(action) for action in actions] == [Stop]


@pytest.mark.parametrize(
    "end",
    [
        Failed(1.0, 1, NODE, 1, "transient", used=Usage(4, 6)),
        Failed(1.0, 1, NODE, 1, "empty", used=Usage(4, 6)),
        Cancelled(1.0, 1, NODE, 1, Usage(4, 6)),
    ],
)
def test_attempts_without_an_answer_are_paid_for(end: Failed | Cancelled) -> None:
    """What failed, or came second, after the server wrote ends the budget as an answer would; it buys none, however."""
    strategy, _ = start(Budget(tokens=35))
    strategy.on_event(done(0))
    strategy.on_event(end)
    (stop,) = [action for row in (2, 1) for action in strategy.on_event(done(row)) if isinstance(action, Stop)]
    assert "30 so far" in stop.reason


def test_what_nobody_knows_the_price_of_costs_nothing() -> None:
    """An attempt that the server turned away, or of which nothing is known, leaves the budget alone."""
    strategy, _ = start(Budget(tokens=35))
    strategy.on_event(done(0))
    for row, used in enumerate((Usage(0, 0), None, Usage(0, 0), None), start=1):
        assert strategy.on_event(Failed(1.0, row, NODE, 1, "busy", used=used)) == [Dispatch(row + 1, NODE)]


def test_what_earlier_sessions_spent_in_vain_counts() -> None:
    """It lies in the purse, and says nothing of what an answer costs."""
    spent = Spent(read=4, written=6, answers=1, vain_read=10, vain_written=10)
    assert [type(action) for action in start(Budget(tokens=39), spent=spent)[1]] == [Stop]
    assert [type(action) for action in start(Budget(tokens=40), spent=spent)[1]] == [Dispatch]


@pytest.mark.parametrize(("cost", "answers"), [(0.001, 10), (0.0005, 5)])
def test_money(cost: float, answers: int) -> None:
    """Reading and writing have their own price, of a million tokens."""
    strategy, actions = start(Budget(cost=cost, price_in=10, price_out=10), rows=20)
    sent = 0
    while isinstance(actions[-1], Dispatch):
        actions = strategy.on_event(done(sent))
        sent += 1
    assert sent == answers


def test_the_stop_is_said_once() -> None:
    """After it, nothing more is sent and nothing more is said."""
    strategy, _ = start(Budget(tokens=35), slots=2)
    said = [action for row in range(9) for action in strategy.on_event(done(row))]
    assert sum(isinstance(action, Stop) for action in said) == 1
    assert isinstance(said[-1], Stop)

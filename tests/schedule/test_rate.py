"""Rate limits: never more than allowed in any minute, and nearly all of it used."""

from __future__ import annotations

from bisect import bisect_left

import pytest

from tokenmill.event import (
    Action,
    Answer,
    Arrived,
    Attempt,
    Cancelled,
    Dispatch,
    Event,
    Failed,
    Finished,
    NodeUp,
    Resized,
    WakeAt,
    Woke,
)
from tokenmill.request import RateSeen, Usage
from tokenmill.schedule import RetryPolicy, Supervisor
from tokenmill.schedule.hedge import Hedged, HedgePolicy
from tokenmill.schedule.order import FileOrder
from tokenmill.schedule.pull import Pull
from tokenmill.schedule.rate import BURST, Rated, RateLimits
from tokenmill.schedule.simulate import SimNode, SimRow, simulate

NODE = 0


def rated(limits: RateLimits) -> Rated:
    return Rated(Supervisor(Pull(FileOrder()), RetryPolicy()), limits)


def most_in_a_minute(attempts: list[Attempt], tokens: int = 1) -> int:
    """The largest number sent (times `tokens`) in any window of a minute."""
    times = sorted(attempt.dispatched for attempt in attempts)
    return tokens * max(index + 1 - bisect_left(times, time - 60 + 1e-9) for index, time in enumerate(times))


@pytest.mark.parametrize("limit", [30, 60, 600])
def test_requests_a_minute(limit: int) -> None:
    """A fast node gets its limit and the bucket's burst at most, and at least nine tenths of it over the run."""
    rows = [SimRow(row=row, tokens=1) for row in range(5 * limit)]
    run = simulate(rated(RateLimits(requests=limit)), rows, [SimNode(slots=100, speed=100.0)])
    assert run.unfinished == 0
    assert most_in_a_minute(run.attempts) <= limit * (1 + BURST) + 1
    assert run.makespan <= 60 * 5 / 0.9


def test_wake_ups_of_others_ask_for_nothing() -> None:
    """A node that has to wait asks to be woken once, however often others are meanwhile."""
    strategy = rated(RateLimits(requests=1))
    told = [strategy.on_event(event) for event in (Arrived(0.0, 0), Arrived(0.0, 1), NodeUp(0.0, NODE, 2))]
    told.append(
        strategy.on_event(
            Finished(1.0, 0, NODE, 1, Answer(text="", finish_reason="stop", prompt_tokens=1, output_tokens=1))
        )
    )
    [due] = [action.time for actions in told for action in actions if isinstance(action, WakeAt)]

    assert [strategy.on_event(Woke(1.0 + step / 10)) for step in range(5)] == [[]] * 5
    assert Dispatch(1, NODE) in strategy.on_event(Woke(due))


def test_tokens_a_minute() -> None:
    """Once the size of answers is known, tokens are spread over the minute too."""
    rows = [SimRow(row=row, tokens=50) for row in range(200)]
    run = simulate(rated(RateLimits(tokens=2000)), rows, [SimNode(slots=4, speed=1000.0)])
    assert run.unfinished == 0
    assert most_in_a_minute(run.attempts, 50) <= 2000 * (1 + BURST) + 4 * 50
    assert run.makespan <= 60 * 5 / 0.9


def test_a_request_dearer_than_the_bucket_goes_when_it_is_full() -> None:
    """With 1000 tokens a minute and 500 an answer, a bucket of 100 is overdrawn by each; all rows are answered."""
    rows = [SimRow(row=row, tokens=500) for row in range(20)]
    run = simulate(rated(RateLimits(tokens=1000)), rows, [SimNode(slots=4, speed=1000.0)])
    assert run.unfinished == 0
    assert most_in_a_minute(run.attempts, 500) <= 1000 * (1 + BURST) + 500
    assert run.makespan <= 20 * 500 / 1000 * 60 / 0.9


def test_each_node_has_its_own_buckets() -> None:
    """Two nodes with 60 a minute answer twice as many."""
    rows = [SimRow(row=row, tokens=1) for row in range(360)]
    run = simulate(rated(RateLimits(requests=60)), rows, [SimNode(slots=9, speed=100.0)] * 2)
    assert 150 <= run.makespan <= 180


def done(time: float, row: int, rate: RateSeen | None = None) -> Finished:
    answer = Answer(text="", finish_reason="stop", prompt_tokens=1, output_tokens=1, rate=rate)
    return Finished(time, row, NODE, 1, answer)


def play(strategy: Rated, *events: Event) -> list[list[Action]]:
    return [[a for a in strategy.on_event(event) if isinstance(a, Dispatch)] for event in events]


def test_the_server_knows_its_limit_better() -> None:
    """When its headers say that nothing is left, nothing is sent until the bucket has filled again."""
    strategy = Rated(Pull(FileOrder()), RateLimits())
    play(strategy, *(Arrived(0.0, row) for row in range(9)), NodeUp(0.0, NODE, 1))
    assert play(strategy, done(0.1, 0)) == [[Dispatch(1, NODE)]]
    empty = RateSeen(requests=60, requests_left=0)
    assert play(strategy, done(0.2, 1, empty), Resized(0.3, NODE, 2)) == [[], []]
    assert play(strategy, Woke(1.3)) == [[Dispatch(2, NODE)]]


def purse(tokens: float, slots: int = 1) -> Rated:
    """One node that has answered a request of 2 tokens, with many rows that wait; a bucket holds `tokens`."""
    strategy = Rated(Pull(FileOrder()), RateLimits(tokens=tokens / BURST))
    play(strategy, *(Arrived(0.0, row) for row in range(99)), NodeUp(0.0, NODE, slots), done(0.0, 0))
    return strategy


def dearest(used: Usage | None) -> int:
    """How many requests of 2 tokens may follow at once on one that failed and used so much; a bucket holds 20."""
    strategy = purse(20)
    play(strategy, Failed(0.0, 1, NODE, 1, "refused", used=used))
    row, sent = 2, 1
    while play(strategy, done(0.0, row)) == [[Dispatch(row + 1, NODE)]]:
        row, sent = row + 1, sent + 1
    return sent


def test_what_an_attempt_without_an_answer_used_is_settled() -> None:
    """One that was turned away gives its tokens back, a dear one leaves little, an unknown one keeps its charge."""
    assert [dearest(used) for used in (Usage(0, 0), None, Usage(1, 1), Usage(4, 8))] == [9, 8, 8, 3]


def test_a_second_attempt_is_charged_where_it_runs() -> None:
    """The bucket of the node that gets it is emptied by it, so of two rows that come then only one is sent."""
    a, b, each = 0, 1, 4
    policy = HedgePolicy(quantile=0.9, budget=9.0, least=4, window=10)
    strategy = Rated(Hedged(Pull(FileOrder()), policy), RateLimits(requests=each / BURST))
    play(strategy, *(Arrived(0.0, row) for row in range(6)), NodeUp(0.0, a, 1), NodeUp(0.0, b, 1))
    ends = [(0.001, 0, a), (0.001, 1, b), (0.002, 2, a), (0.002, 3, b), (0.0029, 4, a)]
    answer = Answer(text="", finish_reason="stop", prompt_tokens=1, output_tokens=1)
    play(strategy, *(Finished(time, row, node, 1, answer) for time, row, node in ends))
    assert play(strategy, Woke(0.0031)) == [[Dispatch(5, a)]]
    play(strategy, Finished(0.0032, 5, a, 2, answer), Cancelled(0.0033, 5, b, 1, Usage(1, 0)))

    assert play(strategy, Arrived(0.004, 6), Arrived(0.004, 7)) == [[Dispatch(6, b)], []]

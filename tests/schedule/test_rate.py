"""Rate limits: never more than allowed in any minute, and nearly all of it used."""

from __future__ import annotations

from bisect import bisect_left

import pytest

from tokenmill.event import Action, Answer, Arrived, Attempt, Dispatch, Event, Finished, NodeUp, Resized, Woke
from tokenmill.request import RateSeen
from tokenmill.schedule import RetryPolicy, Supervisor
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

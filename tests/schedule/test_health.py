"""The table of node states, the breaker, and the lengths of rests."""

from __future__ import annotations

from random import Random

import pytest

from tokenmill.schedule.health import TABLE, Health, NodePolicy, Sign, State

RESTING = (State.BUSY, State.COOLING, State.OFFLINE)


def opened(slots: int = 8, *, seed: int = 1, policy: NodePolicy | None = None) -> Health:
    """A node that has just come up."""
    health = Health(0, policy or NodePolicy(), Random(seed))
    health.open(slots, 0)
    health.enter(Sign.UP)
    return health


def fallen(health: Health, sign: Sign, asked: float | None = None, *, is_last: bool = False) -> float:
    """Seconds for which the node rests after this."""
    health.enter(sign)
    health.fall()
    health.rest(100.0, asked, is_last=is_last)
    assert health.due is not None
    return health.due - 100.0


@pytest.mark.parametrize("state", State)
def test_every_state_knows_what_ends_a_node(state: State) -> None:
    """A loss, a refusal to serve this run and a missing connection have a meaning in every state."""
    assert {Sign.LOST, Sign.WRONG, Sign.UNREACHED} <= TABLE[state].keys()
    assert TABLE[state][Sign.WRONG] is State.MISCONFIGURED


def test_a_misconfigured_node_stays_so() -> None:
    """Nothing brings a node back that can't serve this run, not even a new start of it."""
    assert set(TABLE[State.MISCONFIGURED].values()) == {State.MISCONFIGURED}


@pytest.mark.parametrize("state", RESTING)
def test_no_resting_node_becomes_healthy_by_itself(state: State) -> None:
    """A node that rested comes back warming; only the driver's word that it is up makes it healthy at once."""
    assert [sign for sign, then in TABLE[state].items() if then is State.HEALTHY] == [Sign.UP]


@pytest.mark.parametrize("state", [State.COOLING, State.OFFLINE])
def test_a_cooling_node_comes_back_by_a_probe(state: State) -> None:
    """Time alone doesn't bring back a node whose breaker opened or which could not be reached."""
    assert Sign.RESTED not in TABLE[state]
    assert TABLE[state][Sign.PASSED] is State.WARMING


def test_the_breaker_counts_rows_and_not_failures() -> None:
    """One row that fails over and over doesn't open the breaker; five rows without an answer in between do."""
    health = opened()

    assert not any(health.bad(7) for _ in range(9))
    assert [health.bad(row) for row in (1, 2, 3, 4)] == [False, False, False, True]


def test_an_answer_ends_a_streak() -> None:
    """Failures in a row are counted from the last answer."""
    health = opened()
    for row in range(4):
        health.bad(row)
    for _ in range(10):
        health.good()

    assert not any(health.bad(row) for row in range(4))


def test_half_of_the_last_attempts_open_the_breaker() -> None:
    """A node that fails every second request is out once there were ten of them."""
    health = opened()
    opens = []
    for row in range(5):
        health.good()
        opens.append(health.bad(row))

    assert opens == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [(7.0, 7.0, 8.7), (300.0, 300.0, 331.0), (1e9, 300.0, 331.0), (0.0, 0.0, 1.0), (-1.0, 0.0, 1.0), (None, 0.0, 1.0)],
)
def test_a_busy_node_rests_for_as_long_as_it_asked(asked: float | None, least: float, most: float) -> None:
    """What a node asks for is granted up to five minutes, a little more than that by chance; nonsense is no wish."""
    waits = [fallen(opened(seed=seed), Sign.REFUSED, asked) for seed in range(200)]

    assert least <= min(waits)
    assert max(waits) <= most
    assert len(set(waits)) > 190


def test_rests_double_until_their_cap() -> None:
    """Each rest in a row is drawn from twice the time, never beyond the cap; an answer starts anew."""
    longest = []
    nodes = [opened(seed=seed) for seed in range(300)]
    for _ in range(8):
        longest.append(max(fallen(health, Sign.REFUSED) for health in nodes))
        for health in nodes:
            health.enter(Sign.RESTED)
    for health in nodes:
        health.good()

    assert longest == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60], rel=0.05)
    assert max(fallen(health, Sign.REFUSED) for health in nodes) <= 1


def test_a_cooling_node_rests_half_of_its_time_at_least() -> None:
    """Full jitter would now and then probe a broken node at once."""
    waits = [fallen(opened(seed=seed), Sign.BROKEN) for seed in range(200)]

    assert 0.5 <= min(waits) <= max(waits) <= 1.0


def test_an_offline_node_is_probed_at_the_health_interval() -> None:
    """Probes of a node that can't be reached come at growing intervals, up to the one that is set."""
    health = opened(policy=NodePolicy(health_interval=5.0))
    waits = [fallen(health, Sign.UNREACHED) for _ in range(9)]

    assert waits[0] <= 1
    assert all(2.5 <= wait <= 5 for wait in waits[3:])


def test_strikes_lengthen_the_rest_and_are_forgotten() -> None:
    """A node that falls time and again rests longer, though it answers in between; twenty answers forgive one."""
    health = opened()
    health.strikes = 4
    health.good()
    long = fallen(health, Sign.BROKEN)
    health.enter(Sign.PASSED)
    for _ in range(80):
        health.good()

    assert 8 <= long <= 16
    assert health.strikes == 0
    assert fallen(health, Sign.BROKEN) <= 1


def test_the_last_node_is_not_kept_away_by_its_past() -> None:
    """Strikes don't lengthen the rest of a node when no other takes requests."""
    health = opened()
    health.strikes = 9

    assert fallen(health, Sign.BROKEN, is_last=True) <= 1


def test_a_node_comes_back_with_half_of_its_slots() -> None:
    """It gets one slot more with each answer, and is healthy when it has all of them."""
    health = opened(slots=8)
    fallen(health, Sign.BROKEN)
    health.enter(Sign.PASSED)
    health.come_back()
    seen = [(health.shown, health.state)]
    while health.state is State.WARMING:
        health.good()
        health.grow()
        seen.append((health.shown, health.state))

    assert seen == [*((slots, State.WARMING) for slots in (4, 5, 6, 7)), (8, State.HEALTHY)]


def test_a_busy_node_comes_back_with_what_runs_there() -> None:
    """Requests that a full node kept show how much room it has; it gets one more only for a whole round of answers."""
    health = opened(slots=12)
    health.in_flight = 8
    fallen(health, Sign.REFUSED)
    health.enter(Sign.RESTED)
    health.come_back()
    grown = []
    for _ in range(17):
        health.good()
        grown.append(health.grow())

    assert health.shown == 10
    assert grown == [*[False] * 7, True, *[False] * 8, True]


def test_a_new_start_forgets_what_was_seen() -> None:
    """Failures before a loss or a new start of the node don't count with those after it."""
    health = opened()
    for row in range(4):
        health.bad(row)
    health.close()
    health.open(8, 0)

    assert not any(health.bad(row) for row in range(4, 8))


def test_a_return_starts_a_new_count() -> None:
    """The share of failures is that since the node came back."""
    health = opened()
    for row in range(4):
        health.good()
        health.bad(row)
    fallen(health, Sign.BROKEN)
    health.enter(Sign.PASSED)
    health.come_back()

    health.good()
    assert not any(health.bad(row) for row in range(4))


def test_a_failure_ends_a_series_of_good_answers() -> None:
    """Only twenty good answers without a failure between them take a strike away."""
    health = opened()
    health.strikes = 1
    for _ in range(3):
        for _ in range(19):
            health.good()
        health.bad(7)

    assert health.strikes == 1

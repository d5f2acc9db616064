"""What a fleet keeps, forgets and passes on."""

from __future__ import annotations

import pytest

from schedule.fleets import A, busy, kinds, running, told, wake
from schedule.stories import arrive, cancelled, failed, finished, numbered, play, sent, up
from tokenmill.event import (
    Cancelled,
    Dispatch,
    NodeLost,
    Probe,
    SetAside,
    WakeAt,
    Woke,
)
from tokenmill.schedule import Fleet, State, make
from tokenmill.schedule.hedge import HedgePolicy
from tokenmill.schedule.rate import RateLimits
from tokenmill.schedule.simulate import SimNode, simulate


def test_nothing_is_kept_of_rows_that_are_final() -> None:
    """However often rows were given back or failed, nothing is remembered of them once they have a final word."""
    fleet = running(40, slots=4)
    for row in range(40):
        flying = sorted(place[0] for place in fleet._flights)
        kind = "refused" if row % 3 == 0 else "busy"
        due = max(1.0, wake([WakeAt(0.0), *fleet.on_event(failed(flying[0], kind=kind, time=100.0 * row))]))
        fleet.on_event(Woke(due))
    while fleet._flights:
        row, lease = min(fleet._flights)[0], 99
        fleet.on_event(finished(row, lease=lease, time=1e4))

    assert (fleet._ended_leases, fleet._given_back) == ({}, {})


# Everything else


def test_wake_ups_reach_every_layer() -> None:
    """A strategy deep inside that asked to be woken is, though the fleet and the supervisor wait for nothing."""
    fleet = make(rates=RateLimits(requests=60.0))
    play(fleet, *arrive(*range(40)))
    first = fleet.on_event(up(A, 40))

    assert 0 < len(sent(first)) < 40
    assert len(sent(fleet.on_event(Woke(wake(first))))) > 0


def test_notes_are_those_of_the_last_event() -> None:
    """A change of state is told once, with its reason and when the node is tried again."""
    fleet = running(3, slots=1)
    assert told(fleet) == [(A, State.HEALTHY)]
    due = wake(fleet.on_event(busy(0)))
    [note] = fleet.notes

    assert (note.node, note.state, note.reason, note.until) == (A, State.BUSY, "busy: too many requests", due)
    fleet.on_event(arrive(9)[0])
    assert fleet.notes == []


def test_a_late_word_of_an_old_attempt_is_void() -> None:
    """The answer of an attempt that was given back neither ends the next one on that node nor says it is well."""
    fleet = running(2, slots=1)
    due = wake(fleet.on_event(busy(0)))
    fleet.on_event(Woke(due))

    assert fleet.on_event(finished(0, lease=1)) == []
    assert fleet.room(A) == 1
    assert sent(fleet.on_event(finished(0, lease=2))) == [(1, A)]


def test_a_lost_node_waits_for_the_driver() -> None:
    """A node whose process is gone isn't probed; it is healthy when the driver says that it is up again."""
    fleet = running(3, slots=1)
    play(fleet, failed(0, kind="crash"), NodeLost(1.0, A))

    assert fleet.states == {A: State.OFFLINE}
    assert Probe(A) not in fleet.on_event(Woke(500.0))
    assert sent(fleet.on_event(up(A))) == [(0, A)]
    assert fleet.states == {A: State.HEALTHY}


def test_a_cancelled_row_says_nothing_of_its_node() -> None:
    """An attempt that we ended doesn't change the state of its node."""
    fleet = running(3, slots=1)
    fleet.on_event(cancelled(0))

    assert fleet.states == {A: State.HEALTHY}


def hedging() -> Fleet:
    """Three nodes of one slot each; since 2.0 node 1 is away, row 6 runs on node 2 and node 0 is free."""
    fleet = make(hedge=HedgePolicy(least=4, budget=9.0, window=9), names=["a", "b", "c"])
    play(fleet, *arrive(*range(7)), *(up(node) for node in range(3)))
    play(fleet, *[finished(row, row % 3, time=1.0) for row in range(3)], finished(4, 1, time=2.0))
    play(fleet, finished(3, 0, time=2.0), failed(6, 1, "unreachable", time=2.0), finished(5, 2, time=2.0))
    play(fleet, cancelled(5, 0, lease=2, time=2.0))
    return fleet


def test_second_attempts_know_which_nodes_rest() -> None:
    """A straggler's second attempt goes to no node that rests."""
    fleet = hedging()

    assert fleet.states[1] is State.OFFLINE
    assert sent(fleet.on_event(Woke(50.0))) == [(6, 0)]


def test_a_crash_of_a_second_attempt_blames_no_other_node() -> None:
    """When the node of a second attempt dies after the first has failed, the row is retried where the first was."""
    fleet = hedging()
    play(fleet, Woke(50.0), failed(6, 2, "timeout", lease=2, time=60.0), failed(6, 0, "crash", lease=3, time=61.0))
    play(fleet, NodeLost(61.0, 0))

    assert sent(fleet.on_event(Woke(70.0))) == [(6, 2)]


def test_the_seed_decides_the_rests() -> None:
    """The same seed draws the same rests, another seed others."""
    dues = []
    for seed in (1, 1, 2):
        fleet = make(seed=seed)
        play(fleet, *arrive(0), up(A))
        dues.append(wake(fleet.on_event(busy(0))))

    assert dues[0] == dues[1] != dues[2]


def test_a_calm_run_is_left_alone() -> None:
    """Without failures the states of nodes change no dispatch and cause no wake-up."""
    rows, nodes = numbered([3, 5, 2, 8, 1, 1, 9]), [SimNode(slots=2, look_ahead=1), SimNode(speed=2.0)]

    with_states = simulate(make(), rows, nodes, keep_log=True)
    inner = make().inner
    without = simulate(inner, rows, nodes, keep_log=True)

    assert with_states.log == without.log


@pytest.mark.parametrize("kind", ["refused", "too_long", "filtered"])
def test_a_row_at_fault_says_nothing_of_its_node(kind: str) -> None:
    """However many rows are refused for what they are, their node stays as it is."""
    fleet = running(40, slots=1)
    actions = play(fleet, *[failed(row, kind=kind) for row in range(30)])

    assert all(SetAside in kinds(each) for each in actions)
    assert fleet.states == {A: State.HEALTHY}
    assert Dispatch(30, A) in actions[-1]
    assert not any(isinstance(action, Cancelled) for each in actions for action in each)

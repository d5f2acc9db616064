"""Stories of nodes that are full, away or out of order, and of the rows that were there."""

from __future__ import annotations

import pytest

from schedule.stories import arrive, cancelled, failed, finished, numbered, play, sent, up
from tokenmill.event import (
    Action,
    Cancelled,
    Dispatch,
    Failed,
    NodeLost,
    Probe,
    Probed,
    Resized,
    SetAside,
    Stop,
    WakeAt,
    Woke,
)
from tokenmill.schedule import Fleet, NodePolicy, RetryPolicy, State, make
from tokenmill.schedule.hedge import HedgePolicy
from tokenmill.schedule.rate import RateLimits
from tokenmill.schedule.simulate import Faults, Mishap, SimNode, simulate

A, B = 0, 1


def running(rows: int, slots: int, *, nodes: int = 1, policy: NodePolicy | None = None) -> Fleet:
    """Some nodes with rows in flight, and others waiting."""
    fleet = make(nodes=policy, names=["a", "b", "c"][:nodes])
    play(fleet, *arrive(*range(rows)), *(up(node, slots) for node in range(nodes)))
    return fleet


def busy(row: int, node: int = A, *, lease: int = 1, time: float = 1.0, asked: float | None = None) -> Failed:
    return Failed(time, row, node, lease, "busy", "too many requests", asked)


def wake(actions: list[Action]) -> float:
    """When it asked to be woken."""
    return [action.time for action in actions if isinstance(action, WakeAt)][-1]


def kinds(actions: list[Action]) -> set[type]:
    return {type(action) for action in actions}


def told(fleet: Fleet) -> list[tuple[int, State]]:
    return [(note.node, note.state) for note in fleet.notes]


# Busy


def test_a_busy_node_rests_and_the_row_waits() -> None:
    """A refused row keeps its place and pays nothing; nothing is sent there until the rest is over."""
    fleet = running(4, slots=2)

    refused = fleet.on_event(busy(0, asked=10.0))
    assert fleet.states == {A: State.BUSY}
    assert kinds(refused) == {WakeAt}
    assert 11 <= wake(refused) <= 13
    assert kinds(fleet.on_event(finished(1, time=2.0))) == set()
    assert sent(fleet.on_event(Woke(wake(refused)))) == [(0, A)]
    assert fleet.states == {A: State.WARMING}


def test_a_refused_row_goes_to_another_node_at_once() -> None:
    """A row that one node had no room for is the next to be sent elsewhere."""
    fleet = running(5, slots=1, nodes=2)

    assert sent(fleet.on_event(busy(0, A))) == []
    assert sent(fleet.on_event(finished(1, B))) == [(0, B)]


def test_a_burst_of_refusals_counts_once() -> None:
    """Rows that were refused together don't lengthen the rest, unless a later one asks for more time."""
    fleet = running(8, slots=8)
    first = fleet.on_event(busy(0, asked=5.0))
    more = play(fleet, *[busy(row, asked=1.0) for row in range(1, 6)])

    assert [kinds(each) for each in more] == [set()] * 5
    assert fleet.states == {A: State.BUSY}
    fleet.on_event(busy(6, asked=60.0, time=2.0))
    woken = fleet.on_event(Woke(wake(first)))
    assert sent(woken) == []
    assert wake(woken) == 62.0


def test_a_row_is_refused_any_number_of_times() -> None:
    """However often a node has no room for anybody, no row fails for that."""
    fleet = running(1, slots=1)
    for lease in range(1, 200):
        due = wake(fleet.on_event(busy(0, lease=lease, time=100.0 * lease)))
        assert sent(fleet.on_event(Woke(due))) == [(0, A)]


def test_a_row_that_alone_is_refused_fails_at_last() -> None:
    """A row that a node gives back time and again while it answers others fails, and the reason says so."""
    mishaps = [Mishap(row=0, kind="busy", lease=lease, part=0.9) for lease in range(1, 60)]

    result = simulate(
        make(nodes=NodePolicy(refusals=3)), numbered([12] + [5] * 200), [SimNode(slots=4)], Faults(mishaps=mishaps)
    )

    assert result.unfinished == 0
    assert list(result.set_aside) == [0]
    assert result.set_aside[0].reason == "given back 4 times by nodes that answered others, last with: busy"


# Offline


def test_a_node_that_cannot_be_reached_is_out_at_once() -> None:
    """One failed connection is enough: its rows go elsewhere unpaid, and a probe of one token is asked for."""
    fleet = running(4, slots=1, nodes=2)
    gone = fleet.on_event(failed(0, A, "unreachable"))

    assert told(fleet) == [(A, State.OFFLINE)]
    assert sent(fleet.on_event(finished(1, B))) == [(0, B)]
    assert fleet.on_event(Woke(wake(gone))) == [Probe(A)]
    back = fleet.on_event(Probed(3.0, A))
    assert sent(back) == [(2, A)]
    assert fleet.states == {A: State.WARMING, B: State.HEALTHY}


def test_late_failures_do_not_keep_a_node_away() -> None:
    """What was in flight when a node went down fails later, even after its return, and changes nothing."""
    fleet = running(9, slots=4)
    due = wake(fleet.on_event(failed(0, A, "unreachable")))
    fleet.on_event(failed(1, A, "unreachable", time=1.5))
    play(fleet, Woke(due), Probed(due + 0.1, A))

    late = fleet.on_event(failed(2, A, "unreachable", time=due + 1))

    assert fleet.states == {A: State.WARMING}
    assert fleet.notes == []
    assert sent(late) == [(0, A)]


def test_probes_come_at_growing_intervals() -> None:
    """Each failed probe is followed by the next, after a longer time, up to the health interval."""
    fleet = running(1, slots=1, policy=NodePolicy(health_interval=8.0))
    due = wake(fleet.on_event(failed(0, A, "unreachable", time=0.0)))
    gaps = []
    for _ in range(8):
        assert fleet.on_event(Woke(due)) == [Probe(A)]
        missed = due + 1.0
        due = wake(fleet.on_event(Probed(missed, A, "unreachable", "refused")))
        gaps.append(due - missed)

    assert gaps[0] < 2 < gaps[1] * 2 <= 8
    assert all(4 <= gap <= 8 for gap in gaps[3:])


def test_a_node_is_given_up_after_as_many_probes_as_set() -> None:
    """With a removal threshold, a node that stays away is out; when it was the last, the run stops and says why."""
    fleet = running(1, slots=1, policy=NodePolicy(removal=2))
    due = wake(fleet.on_event(failed(0, A, "unreachable", time=0.0)))
    play(fleet, Woke(due))
    due = wake(fleet.on_event(Probed(due, A, "unreachable", "refused")))
    play(fleet, Woke(due))

    assert fleet.on_event(Probed(due, A, "unreachable", "refused")) == [
        Stop("no node is left that can answer; node 'a' is offline: refused")
    ]
    assert [note.reason for note in fleet.notes] == ["given up after 2 failed probes, last: refused"]


# Misconfigured


def test_a_misconfigured_node_is_out_and_told_once() -> None:
    """A wrong key costs no row anything: all go to the others, and it is said once."""
    fleet = running(6, slots=2, nodes=2)
    fleet.on_event(failed(0, A, "misconfigured"))
    first = told(fleet)
    fleet.on_event(failed(1, A, "misconfigured"))

    assert first == [(A, State.MISCONFIGURED)]
    assert told(fleet) == []
    assert sent(fleet.on_event(finished(2, B))) == [(0, B)]
    assert sent(fleet.on_event(finished(3, B))) == [(1, B)]
    assert fleet.on_event(up(A, 4)) == []


def test_the_run_stops_when_no_node_can_serve_it() -> None:
    """When every node turned out to be misconfigured the run stops, once, and the reason names each with its fault."""
    fleet = running(4, slots=1, nodes=2)
    fleet.on_event(Failed(1.0, 0, A, 1, "misconfigured", "401 wrong key"))

    last = fleet.on_event(Failed(2.0, 1, B, 1, "misconfigured", "no model 'x'"))

    reason = "node 'a' is misconfigured: 401 wrong key; node 'b' is misconfigured: no model 'x'"
    assert last == [Stop(f"no node is left that can answer; {reason}")]
    assert fleet.on_event(Probed(3.0, A)) == []
    assert play(fleet, up(A), Probed(4.0, B, "misconfigured")) == [[], []]


def test_a_node_without_a_name_has_a_number() -> None:
    """The reason for a stop names nodes that nobody named by their numbers."""
    fleet = make(names=["a"])
    play(fleet, up(0), up(1))
    [stop] = play(fleet, Probed(1.0, 0, "misconfigured", "401"), Probed(1.0, 1, "misconfigured", "403"))[1]

    assert isinstance(stop, Stop)
    assert stop.reason.endswith("node 'a' is misconfigured: 401; node 1 is misconfigured: 403")


def test_a_node_that_is_not_open_yet_may_still_come() -> None:
    """The run doesn't stop while a node is on its way."""
    fleet = make(names=["a", "b"])
    play(fleet, *arrive(0), up(A))

    assert fleet.on_event(failed(0, A, "misconfigured")) == []
    assert fleet.states == {A: State.MISCONFIGURED, B: State.WARMING}
    assert sent(fleet.on_event(up(B))) == [(0, B)]


def test_the_driver_may_say_that_a_node_cannot_be_opened() -> None:
    """What it found out is told like the outcome of a probe."""
    fleet = make(names=["a"])

    assert fleet.on_event(Probed(0.0, A, "misconfigured", "no model 'x'")) == [
        Stop("no node is left that can answer; node 'a' is misconfigured: no model 'x'")
    ]


# The breaker


def test_five_rows_that_fail_in_a_row_open_the_breaker() -> None:
    """A node on which everything fails cools down, and comes back by a probe with half of its slots."""
    fleet = running(20, slots=8)
    story = [fleet.on_event(failed(row, kind="timeout", time=1.0)) for row in range(5)]
    due = wake(story[-1])

    assert fleet.states == {A: State.COOLING}
    assert sent(story[-1]) == []
    assert Probe(A) in fleet.on_event(Woke(due))
    play(fleet, *[finished(row, time=due) for row in range(5, 12)])
    assert len(sent(fleet.on_event(Probed(due + 0.5, A)))) == 4
    assert fleet.room(A) == 4


def test_rows_do_not_pay_for_a_node_on_which_everything_fails() -> None:
    """From the second row in a streak on, failures are laid on the node: no row is set aside in a storm."""
    fleet = make(policy=RetryPolicy(retries=0))
    play(fleet, *arrive(*range(6)), up(A, 6))
    fleet.on_event(finished(5))

    actions = play(fleet, *[failed(row) for row in range(5)])

    assert [[action.row for action in each if isinstance(action, SetAside)] for each in actions] == [
        [0],
        [],
        [],
        [],
        [],
    ]


def test_a_probe_that_fails_keeps_the_node_away() -> None:
    """While probes fail nothing is sent; a full node that answers a probe with 503 is waited for as it asks."""
    fleet = running(9, slots=1, policy=NodePolicy(failures=1))
    due = wake(fleet.on_event(failed(0, time=0.0)))
    play(fleet, Woke(due))
    again = fleet.on_event(Probed(due, A, "transient", "500"))
    play(fleet, Woke(wake(again)))
    full = fleet.on_event(Probed(20.0, A, "busy", "503", 40.0))

    assert sent(again) == sent(full) == []
    assert fleet.states == {A: State.COOLING}
    assert 60 <= wake(full) <= 65


def test_failures_after_a_fall_are_laid_on_the_node() -> None:
    """What was in flight when the breaker opened fails later at no cost, but not what ran on a node that was full."""
    policy = RetryPolicy(retries=0)
    for fall, is_spared in (("unreachable", True), ("busy", False)):
        fleet = make(policy=policy)
        play(fleet, *arrive(0, 1), up(A, 2), failed(0, kind=fall))

        late = fleet.on_event(failed(1, time=2.0))

        assert any(isinstance(action, SetAside) for action in late) is not is_spared


# What the driver finds out


def test_news_of_a_node_in_use_count() -> None:
    """A node in use that the driver finds out of reach is out at once; a passing fault isn't taken for that."""
    fleet = running(4, slots=1, nodes=2)
    play(fleet, Probed(1.0, A, "transient"), Probed(1.0, A, "busy"))
    assert fleet.states == {A: State.HEALTHY, B: State.HEALTHY}

    fleet.on_event(Probed(2.0, A, "unreachable", "no route"))
    assert fleet.states == {A: State.OFFLINE, B: State.HEALTHY}
    fleet.on_event(Probed(2.5, B, "misconfigured", "401"))
    assert fleet.states == {A: State.OFFLINE, B: State.MISCONFIGURED}


def test_a_resting_node_may_turn_out_to_be_misconfigured() -> None:
    """A probe that is refused for its key ends the rest: the node isn't tried again."""
    fleet = running(4, slots=1, nodes=2)
    due = wake(fleet.on_event(failed(0, A, "unreachable")))
    play(fleet, Woke(due))

    assert kinds(fleet.on_event(Probed(due, A, "misconfigured", "401"))) == set()
    assert told(fleet) == [(A, State.MISCONFIGURED)]
    assert fleet.on_event(Woke(1000.0)) == []


def test_a_busy_node_that_turns_out_misconfigured_is_not_tried_again() -> None:
    """A late refusal of a request for its key ends the rest of a full node."""
    fleet = running(4, slots=2, nodes=2)
    due = wake(fleet.on_event(busy(0, A)))
    fleet.on_event(failed(1, A, "misconfigured", time=1.2))

    assert fleet.on_event(Woke(due)) == []
    assert fleet.states[A] is State.MISCONFIGURED


def test_the_driver_may_give_a_node_another_number_of_slots() -> None:
    """More slots are filled at once; while the node comes back they are only what it may grow to."""
    fleet = running(40, slots=2)
    assert len(sent(fleet.on_event(Resized(1.0, A, 4)))) == 2

    due = wake(fleet.on_event(busy(0, time=2.0)))
    play(fleet, *[finished(row, time=2.0) for row in (1, 2, 3)], Resized(2.0, A, 8), Woke(due))
    assert fleet.room(A) == 2


def test_a_loss_while_a_node_rests_is_told() -> None:
    """A resting node that is lost won't be probed any more, and the note says so."""
    fleet = running(2, slots=1)
    fleet.on_event(failed(0, A, "unreachable"))
    fleet.on_event(NodeLost(2.0, A))

    [note] = fleet.notes
    assert (note.state, note.reason, note.until) == (State.OFFLINE, "lost", None)
    assert Probe(A) not in fleet.on_event(Woke(50.0))


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

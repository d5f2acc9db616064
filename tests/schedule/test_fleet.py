"""Stories of nodes that are full, away or out of order, and of the rows that were there."""

from __future__ import annotations

from schedule.fleets import A, B, busy, kinds, running, told, wake
from schedule.stories import arrive, failed, finished, numbered, play, sent, up
from tokenmill.event import (
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
from tokenmill.schedule import NodePolicy, RetryPolicy, State, make
from tokenmill.schedule.simulate import Faults, Mishap, SimNode, simulate

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

"""What nodes do wrong in the matrix of faults, and what a run makes of it, on virtual time.

The names follow the matrix: B9 is a node that asks to be left alone, and so on. Each test asserts the behaviour that
the matrix expects; that nothing runs twice and no node is overfull, the simulator asserts in all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from schedule.stories import numbered
from tokenmill.event import Attempt, Cancelled, Finished, Probe
from tokenmill.schedule import RetryPolicy, State, make
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.simulate import Faults, SimNode, SimRow, Simulated, Spell, simulate

#: A row pays for its first failure: whoever shouldn't pay has to be spared.
STRICT = RetryPolicy(retries=0, pardons=0)


def play(
    rows: Sequence[SimRow], nodes: Sequence[SimNode], *spells: Spell, policy: RetryPolicy | None = None, seed: int = 0
) -> Simulated:
    names = [f"node-{number}" for number in range(len(nodes))]
    strategy = make(policy=policy, seed=seed, names=names)
    return simulate(strategy, rows, nodes, Faults(spells=spells), keep_log=True, until=1e5)


def sent(result: Simulated, begins: float, ends: float, node: int | None = None) -> list[Attempt]:
    """The attempts that began in this time."""
    on_node = (attempt for attempt in result.attempts if node in (None, attempt.node))
    return [attempt for attempt in on_node if begins <= attempt.dispatched < ends]


def answered(result: Simulated) -> list[int]:
    return [attempt.row for attempt in result.attempts if attempt.outcome == "answered"]


def most_in_flight(attempts: Sequence[Attempt]) -> int:
    ends = sorted((moment, step) for one in attempts for moment, step in ((one.dispatched, 1), (one.finished, -1)))
    most = now = 0
    for _, step in ends:
        now += step
        most = max(most, now)
    return most


# B9: 429 and 503


@pytest.mark.parametrize(
    ("asked", "rest"),
    [(10.0, 10.0), (1e9, 300.0), (0.0, 0.0), (-1.0, 0.0), (None, 0.0)],
    ids=["seconds", "huge", "zero", "negative", "absent or garbage"],
)
def test_b9_a_node_that_asks_for_time_gets_it(asked: float | None, rest: float) -> None:
    """The node rests for as long as it asks, within limits; no row pays an attempt, and all keep their places."""
    full = Spell(node=0, begins=0, ends=30, kind="busy", retry_after=asked)

    result = play(numbered([5] * 12), [SimNode(slots=4)], full, policy=STRICT)

    assert result.set_aside == {}
    assert answered(result) == sorted(answered(result))
    refused = sorted({attempt.dispatched for attempt in result.attempts if attempt.kind == "busy"})
    starts = sorted({attempt.dispatched for attempt in result.attempts})
    assert all(later - earlier >= rest for earlier, later in zip(refused, starts[1:], strict=False))
    assert result.makespan <= max(30, 1.1 * rest) + 60 + 35
    assert len(refused) <= 15


def test_b9_a_full_node_does_not_hold_up_the_others() -> None:
    """While one node asks for time, its rows are answered elsewhere, at the price of nothing."""
    full = Spell(node=0, begins=10, ends=500, kind="busy", retry_after=60.0)

    result = play(numbered([5] * 100), [SimNode(slots=2), SimNode(slots=2)], full, policy=STRICT)

    assert result.set_aside == {}
    assert result.makespan <= 1.1 * (10 + (500 - 40) / 2)


# B10: misconfigured


def test_b10_a_node_with_a_wrong_key_is_told_of_once() -> None:
    """A node that refuses every request for its key or its model is out; thousands of rows don't fail for it."""
    wrong = Spell(node=1, begins=0, ends=1e9, kind="misconfigured")

    result = play(numbered([1] * 1000), [SimNode(slots=8), SimNode(slots=8)], wrong, policy=STRICT)

    assert result.set_aside == {}
    assert result.unfinished == 0
    assert [note.node for note in result.notes if note.state is State.MISCONFIGURED] == [1]
    assert sum(attempt.kind == "misconfigured" for attempt in result.attempts) == 8


def test_b10_a_run_without_a_good_node_stops() -> None:
    """When all nodes refuse to serve the run, it stops after one request each; no row fails."""
    wrong = [Spell(node=node, begins=0, ends=1e9, kind="misconfigured") for node in (0, 1)]

    result = play(numbered([1] * 50), [SimNode(), SimNode()], *wrong, policy=STRICT)

    assert result.stopped is not None
    assert "'node-0' is misconfigured" in result.stopped
    assert "'node-1' is misconfigured" in result.stopped
    assert (result.unfinished, result.set_aside, len(result.attempts)) == (50, {}, 2)


# B11: a storm of 5xx


def test_b11_a_storm_on_all_nodes_is_sat_out() -> None:
    """In ten minutes of 5xx everywhere rows wait and none fails; then all goes on within one back-off cap."""
    nodes = [SimNode(slots=4)] * 10
    storm = [Spell(node=node, begins=60, ends=660, kind="transient", cuts=True) for node in range(10)]
    policy = RetryPolicy()

    result = play(numbered([10] * 2000), nodes, *storm, policy=policy)

    calm = 2000 * 10 / 40
    in_storm = sent(result, 60, 660)
    failures = [attempt for attempt in result.attempts if attempt.outcome == "failed"]
    probes = [event.time for event, actions in result.log if any(isinstance(one, Probe) for one in actions)]
    assert result.set_aside == {}
    assert len(failures) <= policy.reserve + policy.share * 240
    assert len(in_storm) <= 10 * 2 * 4
    assert len([probe for probe in probes if 60 <= probe < 660]) <= 10 * 30
    assert len({round(probe, 3) for probe in probes}) == len(probes)
    assert min(attempt.dispatched for attempt in sent(result, 660, 1e9)) <= 660 + policy.cap
    assert len(sent(result, 660 + policy.cap, 1e9)) > 0.8 * (2000 - 240) - 400
    assert result.makespan <= calm + 600 + policy.cap + 30


def test_b11_a_storm_costs_no_row_its_attempts() -> None:
    """Though every row in flight fails once when the storm begins, and again at each return, none is set aside."""
    gusts = [Spell(node=0, begins=at, ends=at + 20, kind="transient", cuts=True) for at in range(10, 400, 40)]

    result = play(numbered([8] * 150), [SimNode(slots=8)], *gusts)

    assert result.set_aside == {}
    assert result.unfinished == 0


# B14: late answers


def test_b14_a_late_answer_changes_nothing() -> None:
    """The answer of an attempt that had timed out comes after that of the retry, and is void; each row counts once."""
    silent = Spell(node=0, begins=0, ends=12, kind="timeout", after=5.0, late=40.0)

    result = play(numbered([4] * 20), [SimNode(slots=2), SimNode(slots=2)], silent)

    late = [event for event, actions in result.log if isinstance(event, Finished) and event.time > 40 and not actions]
    assert late
    assert sorted(answered(result)) == list(range(20))
    leases = Counter((attempt.row, attempt.lease) for attempt in result.attempts)
    assert max(leases.values()) == 1


def test_b14_a_late_answer_before_the_retry_is_void_too() -> None:
    """An answer that comes between the timeout and the retry isn't taken for one: the row runs again."""
    silent = Spell(node=0, begins=0, ends=0.5, kind="timeout", after=5.0, late=0.1)

    result = play(numbered([4]), [SimNode()], silent)

    assert [(attempt.outcome, attempt.lease) for attempt in result.attempts] == [("failed", 1), ("answered", 2)]


# C1: the engine is dead behind an API that is up


def test_c1_a_node_whose_requests_stall_is_put_aside() -> None:
    """After five stalled requests nothing is sent there; one token has to come before it is used again."""
    dead = Spell(node=0, begins=30, ends=400, kind="timeout", after=20.0, cuts=True)

    result = play(numbered([5] * 400), [SimNode(slots=4), SimNode(slots=4)], dead)

    falls = [note for note in result.notes if note.node == 0 and note.state is State.COOLING]
    back = [note for note in result.notes if note.node == 0 and note.state is State.WARMING]
    assert len(falls) == 1
    assert sum(attempt.kind == "timeout" for attempt in result.attempts) <= 5 + 2 * 4
    assert falls[0].time <= 30 + 2 * 20
    assert sent(result, falls[0].time, back[0].time, node=0) == []
    assert 400 <= back[0].time <= 400 + 60 + 20
    assert result.set_aside == {}


# C2: slow nodes


def test_c2_a_slow_node_gets_a_smaller_share() -> None:
    """One node of twenty that is ten times slower gets few rows, and the run takes at most 1.3 times the ideal."""
    nodes = [SimNode(slots=2, speed=0.1), *[SimNode(slots=2)] * 19]

    result = play(numbered([10] * 2000), nodes)

    share = Counter(attempt.node for attempt in result.attempts)
    ideal = 2000 * 10 / (2 * 19.1)
    assert share[0] <= 0.2 * share[1]
    assert result.makespan <= 1.3 * ideal


def test_c2_a_node_that_grows_slow_loses_its_share() -> None:
    """A node that becomes slower step by step gets less and less, and nobody takes it for broken."""
    steps = tuple((60.0 * step, Curve(slowness=2.0**step)) for step in range(1, 4))
    nodes = [SimNode(slots=2, changes=steps), *[SimNode(slots=2)] * 5]

    result = play(numbered([10] * 600), nodes)

    shares = [len(sent(result, begins, begins + 60, node=0)) for begins in (0, 60, 120, 180)]
    assert shares == sorted(shares, reverse=True)
    assert shares[3] <= shares[0] / 4
    assert {note.state for note in result.notes} == {State.HEALTHY}
    assert result.makespan <= 1.3 * 600 * 10 / (2 * 5.5)


# C3: flapping nodes, and a fleet that dies and returns


@pytest.mark.parametrize("kind", ["unreachable", "transient"])
def test_c3_a_flapping_node_is_no_ping_pong(kind: str) -> None:
    """A node that comes and goes every two seconds is tried ever more rarely, and costs no row more than its time."""
    flaps = [Spell(node=0, begins=at, ends=at + 2, kind=kind, cuts=True) for at in range(10, 600, 4)]
    nodes = [SimNode(slots=4), SimNode(slots=4)]

    result = play(numbered([10] * 500), nodes, *flaps)

    falls = [note.time for note in result.notes if note.node == 0 and note.until is not None]
    early, late = (sum(begins <= fall < begins + 150 for fall in falls) for begins in (10, 310))
    assert result.set_aside == {}
    assert len(falls) <= 40
    assert late <= early
    assert result.makespan <= 1.05 * 500 * 10 / 4


def test_c3_a_fleet_that_returns_is_not_overrun() -> None:
    """When all nodes come back at once, each starts with half of its slots, and not all in the same moment."""
    nodes = [SimNode(slots=8)] * 10
    gone = [Spell(node=node, begins=50, ends=200, kind="unreachable", cuts=True) for node in range(10)]

    result = play(numbered([10] * 2000), nodes, *gone, policy=STRICT)

    back = {note.node: note.time for note in result.notes if note.state is State.WARMING and note.time >= 200}
    first = {node: len(sent(result, when, when + 1e-6, node=node)) for node, when in back.items()}
    assert len(back) == 10
    assert set(first.values()) == {4}
    assert max(back.values()) - min(back.values()) > 2
    assert len(set(back.values())) == 10
    assert result.set_aside == {}
    assert result.makespan <= 2000 * 10 / 80 + 150 + 30 + 40


# C4: capacity that changes


def test_c4_in_flight_follows_the_capacity() -> None:
    """When room for 8 becomes room for 1, at most 2 are in flight after some answers; then all 8 are used again."""
    tight = Spell(node=0, begins=100, ends=500, kind="busy", above=1)

    result = play(numbered([10] * 300), [SimNode(slots=8)], tight, policy=STRICT)

    settled = sent(result, 150, 500)
    assert result.set_aside == {}
    assert most_in_flight(settled) <= 2
    assert sum(attempt.outcome == "answered" for attempt in settled) >= 0.85 * 350 / 10
    # From one slot to eight, each after a whole round of answers: 28 answers.
    assert most_in_flight(sent(result, 600, 1e9)) == 8


# C5: a model that has to be loaded


def test_c5_a_long_load_is_waited_for() -> None:
    """While a model loads for five minutes nothing fails, nothing is sent twice, and the node stays in use."""
    load = Spell(node=0, begins=20, ends=320, kind="")

    result = play(numbered([5] * 60), [SimNode(slots=4)], load, policy=STRICT)

    assert {attempt.outcome for attempt in result.attempts} == {"answered"}
    assert len(sent(result, 20, 320)) == 4
    assert {note.state for note in result.notes} == {State.HEALTHY}


def test_c5_a_load_beyond_the_clock_is_no_retry_storm() -> None:
    """If the first-token clock is shorter than the load, two rounds of requests and some probes are all it costs."""
    load = Spell(node=0, begins=20, ends=320, kind="timeout", after=60.0)

    result = play(numbered([5] * 60), [SimNode(slots=8)], load)

    assert result.set_aside == {}
    assert len(sent(result, 20, 320)) <= 8 + 8
    assert result.makespan <= 320 + 60 + 60 + 60 * 5


def test_nothing_is_cancelled_by_the_fleet() -> None:
    """What runs on a node that falls goes on: only its own end frees it."""
    full = Spell(node=0, begins=3, ends=30, kind="busy")

    result = play(numbered([5] * 12), [SimNode(slots=4)], full)

    assert not any(isinstance(event, Cancelled) for event, _ in result.log)

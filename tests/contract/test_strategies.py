"""What every strategy promises, with every order; a new strategy adds a line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedule.crowd import Crowd, upheavals
from schedule.stories import (
    arrive,
    cancelled,
    failed,
    finished,
    fleets,
    numbered,
    play,
    resized,
    scripts,
    sent,
    up,
    workloads,
)
from tokenmill.event import NODE_KINDS, Dispatched, Failed, FirstToken, NodeLost, Paced, Woke
from tokenmill.schedule import ORDERS, STRATEGIES, Fleet, RetryPolicy, Strategy, Supervisor, make
from tokenmill.schedule.simulate import Faults, Outage, SimNode, SimRow, Simulated, simulate


def _inside(build: Callable[[], Fleet]) -> Strategy:
    supervisor = build().inner
    assert isinstance(supervisor, Supervisor)
    return supervisor.inner


#: Those that differ from `pull` only in which node is next are tried with one order.
RANKED = {"least-loaded", "priority", "gpu-first"}
#: Every way to build a strategy, with failure policy and the states of nodes around it.
MADE = {
    f"{strategy}, {order}": partial(make, strategy, order)
    for strategy in STRATEGIES
    for order in ORDERS
    if strategy not in RANKED or order == "file"
}
MADE["static in blocks"] = partial(make, "static", block_of=20)
MADE["auto in groups"] = partial(make, "auto", groups=[(0, 1), (2, 3)])
#: The same without failure policy: what the rules of `Strategy` ask of them alone.
BARE = {name: partial(_inside, build) for name, build in MADE.items()}

Build = Callable[[], Strategy]
supervised = pytest.mark.parametrize("build", MADE.values(), ids=MADE.keys())
bare = pytest.mark.parametrize("build", BARE.values(), ids=BARE.keys())
both = pytest.mark.parametrize(
    "build", [*MADE.values(), *BARE.values()], ids=[*MADE, *(f"{name}, bare" for name in BARE)]
)


@both
def test_every_row_runs_once_when_nothing_fails(build: Build) -> None:
    """Without faults every row is answered by its first attempt, on nodes of any shape."""
    nodes = [SimNode(slots=3, look_ahead=2), SimNode(speed=0.25), SimNode(slots=2, look_ahead=5)]

    result = simulate(build(), numbered(range(1, 60)), nodes)

    assert result.unfinished == 0
    assert sorted(attempt.row for attempt in result.attempts) == list(range(59))
    assert {attempt.outcome for attempt in result.attempts} == {"answered"}


@both
def test_rows_wait_until_a_node_is_up(build: Build) -> None:
    """Nothing is sent while no node is up, and the first node gets what waited."""
    strategy = build()

    assert play(strategy, *arrive(0, 1, 2)) == [[], [], []]
    assert sent(strategy.on_event(up(7))) == [(0, 7)]


@both
@pytest.mark.parametrize("end", [failed, cancelled])
def test_a_free_place_is_filled_at_once(build: Build, end: Callable[[int, int], Failed]) -> None:
    """The end of an attempt, whatever its kind, sends a row in the same breath."""
    strategy = build()
    play(strategy, *arrive(0, 1, 2), up(0))

    assert len(sent(strategy.on_event(end(0, 0)))) == 1


@both
def test_other_events_change_nothing(build: Build) -> None:
    """Dispatches, first tokens and wake-ups that nobody asked for cause no action."""
    strategy = build()
    play(strategy, *arrive(0, 1, 2), up(0))

    noise = [Dispatched(0.0, 0, 0, 1), FirstToken(0.5, 0, 0, 1), Paced(0.6, 0, 0, 1, 4), Woke(0.7), resized(9)]

    assert play(strategy, *noise) == [[]] * 5


@both
def test_rows_of_a_lost_node_go_elsewhere(build: Build) -> None:
    """What only waited for a node that is lost for good is answered by the others, without a failed attempt."""
    nodes = [SimNode(slots=2), SimNode(slots=2)]
    late = [SimRow(row=row, tokens=5, arrives=1.0) for row in range(20)]
    faults = Faults(outages=[Outage(node=1, down=0.5)])

    result = simulate(build(), late, nodes, faults)

    assert result.unfinished == 0
    assert {(attempt.node, attempt.outcome) for attempt in result.attempts} == {(0, "answered")}


@both
def test_a_lost_node_has_no_places(build: Build) -> None:
    """Nothing is sent to a lost node; when it is up again it gets rows again."""
    strategy = build()
    play(strategy, up(0), NodeLost(1.0, 0))

    assert play(strategy, *arrive(0, 1)) == [[], []]
    assert sent(strategy.on_event(up(0, time=2.0))) == [(0, 0)]


@bare
def test_a_row_that_comes_back_goes_first(build: Build) -> None:
    """A row that arrives again is sent before those that arrived after it and still wait."""
    strategy = build()
    play(strategy, *arrive(*range(6)), up(0))
    play(strategy, failed(0))

    strategy.on_event(arrive(0)[0])

    assert sent(strategy.on_event(failed(1))) == [(0, 0)]


@bare
def test_a_node_that_joins_is_used(build: Build) -> None:
    """Of two nodes the second works too if it comes up in the middle, unless only one row may run at a time."""
    rows = numbered([5] * 40)
    faults = Faults(outages=[Outage(node=1, down=0.0, up=12.0)])

    result = simulate(build(), rows, [SimNode(), SimNode()], faults)

    used = {attempt.node for attempt in result.attempts}
    in_one_row = result.makespan == 200
    assert result.unfinished == 0
    assert used == {0} if in_one_row else used == {0, 1}


@both
def test_more_slots_are_filled_at_once(build: Build) -> None:
    """A node that grows gets rows in the same breath, unless no second row may run yet, or ever."""
    strategy = build()
    play(strategy, *arrive(*range(20)))
    first = len(sent(strategy.on_event(up(0, slots=2))))

    grown = [len(sent(each)) for each in play(strategy, resized(0, 3), resized(0, 4))]

    assert grown == ([0, 0] if first == 1 else [1, 1])


@both
def test_a_node_that_shrinks_runs_out_first(build: Build) -> None:
    """What runs on a node with fewer slots goes on, and nothing is sent before it has room."""
    strategy = build()
    play(strategy, *arrive(*range(20)))
    running = [row for row, _ in sent(strategy.on_event(up(0, slots=4)))]

    assert strategy.on_event(resized(0, 1)) == []
    ends = [sent(strategy.on_event(finished(row))) for row in running]
    assert [len(rows) for rows in ends] == [0] * (len(running) - 1) + [1]


@both
def test_a_node_without_slots_is_not_there(build: Build) -> None:
    """Nothing is sent to it, its waiting rows go to the others, and it takes part again once it has slots."""
    strategy = build()
    play(strategy, *arrive(*range(20)))
    first = [sent(strategy.on_event(up(node))) for node in (0, 1)]
    moved = sent(strategy.on_event(resized(0, 0)))
    gone = sent(strategy.on_event(finished(first[0][0][0], 0)))
    if not first[1]:  # one row, or one node, at a time
        assert [node for _, node in moved + gone] == [1]
        return
    [(row, node)] = first[1]
    for _ in range(10):
        assert (gone, node) == ([], 1)
        [(row, node)] = sent(strategy.on_event(finished(row, 1)))
    assert [node for _, node in sent(strategy.on_event(resized(0, 1)))] == [0]


@both
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_places_hold_whatever_happens_to_nodes(build: Build, data: st.DataObject) -> None:
    """Nodes come, go and change their slots at any time: no place is used twice, no row is lost or repeated."""
    crowd = Crowd(build())

    for upheaval in data.draw(upheavals()):
        crowd.suffer(*upheaval)
    crowd.calm_down()

    assert crowd.ended == crowd.arrived


@supervised
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_row_is_lost_repeated_or_starved(build: Build, data: st.DataObject) -> None:
    """Under any script of faults that leaves one node, every row is answered once or set aside once.

    The simulator refuses a second live attempt, a dispatch after the end and more rows than a node has places.
    """
    rows, nodes = data.draw(workloads()), data.draw(fleets())
    faults = data.draw(scripts(rows, nodes))

    result = simulate(build(), rows, nodes, faults, keep_log=True)

    assert result.unfinished == 0
    answered = [attempt.row for attempt in result.attempts if attempt.outcome == "answered"]
    assert sorted([*answered, *result.set_aside]) == [row.row for row in rows]
    _check_retries(result)
    _check_replay(build(), result)


def _check_retries(result: Simulated) -> None:
    """No row fails more often than policy allows, apart from crashes and what says nothing of the row."""
    failures: dict[int, int] = {}
    for attempt in result.attempts:
        if attempt.outcome == "failed" and attempt.kind not in ("crash", *NODE_KINDS):
            failures[attempt.row] = failures.get(attempt.row, 0) + 1
    assert max(failures.values(), default=0) <= RetryPolicy().retries + 1 + RetryPolicy().pardons


def _check_replay(fresh: Strategy, result: Simulated) -> None:
    """A fresh strategy takes the same actions when it is told the same events."""
    assert [fresh.on_event(event) for event, _ in result.log] == [actions for _, actions in result.log]

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from schedule.stories import arrive, finished, play, sent, up
from tokenmill.event import FirstToken, NodeLost
from tokenmill.schedule import make
from tokenmill.schedule.choose import trials_of
from tokenmill.schedule.curve import Curve
from tokenmill.schedule.simulate import SimNode, SimRow, simulate
from tokenmill.schedule.trial import Trial, Verdict

#: One processor that is full with one request, and loses a third more for a second server: the same-host scenario.
CROWDED = Curve(slots=1, serial=1.0, crowding=0.3)
#: A device that one server with four slots can't fill.
ROOMY = Curve(slots=4, serial=0.05)
#: Requests that fill 200 turns on a node of one slot.
MANY, FEW = 3000, 300


def rows(count: int) -> list[SimRow]:
    random = Random(1)
    return [SimRow(row=row, tokens=random.randint(20, 100)) for row in range(count)]


def pair(curve: Curve, device: str | None = "cpu") -> list[SimNode]:
    return [SimNode(slots=8, speed=25, overhead=0.1, curve=curve, device=device)] * 2


def played(nodes: list[SimNode], count: int, groups: list[tuple[int, ...]]) -> tuple[float, Verdict | None]:
    strategy = make("auto", groups=groups)
    result = simulate(strategy, rows(count), nodes)
    assert result.unfinished == 0
    return result.makespan, next((trial.verdict for trial in trials_of(strategy)), None)


def test_two_nodes_that_are_slower_together() -> None:
    """On one processor one of the nodes is used, at a cost of at most 2 % against knowing it beforehand."""
    nodes = pair(CROWDED)
    one, both = played(nodes[:1], MANY, [])[0], played(nodes, MANY, [])[0]

    took, verdict = played(nodes, MANY, [(0, 1)])

    assert verdict is not None
    assert len(verdict.nodes) == 1
    assert verdict.high < 0
    assert verdict.together / verdict.alone == pytest.approx(one / both, rel=0.05)
    assert took <= 1.02 * min(one, both)


def test_two_nodes_that_are_faster_together() -> None:
    """On a device with room both are used; only the interval says so, not the address."""
    nodes = pair(ROOMY)
    both = played(nodes, MANY, [])[0]

    took, verdict = played(nodes, MANY, [(0, 1)])

    assert verdict is not None
    assert verdict.nodes == (0, 1)
    assert verdict.low > 0
    assert took <= 1.02 * both


#: Two that share a processor, and one that has all of it.
DIVIDED = (0, 1, 2)


def divided(whole_speed: float) -> tuple[Verdict | None, set[int]]:
    """The verdict on two halves and a whole, and the nodes that answered in the last tenth of the run."""
    half = SimNode(slots=1, speed=10, overhead=0.1)
    strategy = make("auto", groups=[DIVIDED], wholes=[2])
    result = simulate(strategy, rows(MANY), [half, half, replace(half, speed=whole_speed)])
    assert result.unfinished == 0
    (trial,) = trials_of(strategy)
    return trial.verdict, set(trial.active)


def test_all_parts_are_compared_with_the_whole() -> None:
    """Two processes are used where they beat the one that has all cores, and never beside it."""
    verdict, active = divided(whole_speed=14)

    assert verdict is not None
    assert verdict.nodes == (0, 1)
    assert verdict.low > 0
    assert active == {0, 1}


def test_the_whole_is_used_where_it_is_faster() -> None:
    """One process with all cores that is faster is the verdict, with both figures."""
    verdict, active = divided(whole_speed=30)

    assert verdict is not None
    assert verdict.nodes == (2,)
    assert verdict.high < 0
    assert verdict.alone / verdict.together == pytest.approx(1.5, rel=0.1)
    assert active == {2}


def trial_of(start: float, answers: int) -> Trial:
    """A trial of nodes 0 and 1 after so many answers of node 0, one a second since `start`, with a thousand to come."""
    trial = Trial((0, 1))
    trial.restrict([0, 1])
    for row in range(answers):
        trial.sent(row, 0, start + row)
        trial.first_token(row, start + row + 0.1)
        trial.ended(row, start + row + 1, 10, left=10_000.0)
    return trial


def test_loading_is_no_part_of_a_turn() -> None:
    """Whether a run is long enough to try is judged by the turns themselves, however late the nodes came up."""
    assert trial_of(start=0.0, answers=4).active == (0, 1)
    assert trial_of(start=1000.0, answers=4).active == (0, 1)


def test_nothing_is_measured_while_a_node_is_missing() -> None:
    """Nodes come up one after the other; those that are there work, and their turn waits for the others."""
    trial = Trial(DIVIDED, whole=2)
    trial.restrict([0])
    for row in range(20):
        trial.sent(row, 0, row)
        trial.first_token(row, row + 0.1)
        trial.ended(row, row + 1.0, 10, left=1000.0)

    assert trial.verdict is None
    assert trial.active == (0,)
    trial.restrict([0, 1, 2])
    assert trial.active == (2,)


def test_without_the_whole_all_parts_work() -> None:
    """A whole that never comes up leaves nobody idle."""
    strategy = make("auto", groups=[DIVIDED], wholes=[2])

    play(strategy, up(0), up(1), *arrive(0, 1, 2, 3))

    assert trials_of(strategy)[0].active == (0, 1)


def test_a_short_run_measures_nothing() -> None:
    """A run of fewer than 200 turns uses one node per device and says that nothing was measured."""
    nodes = pair(CROWDED)

    took, verdict = played(nodes, FEW, [(0, 1)])

    assert str(verdict) == "not measured: run too short: using one"
    assert took == played(nodes[:1], FEW, [])[0]


def test_two_nodes_that_share_nothing() -> None:
    """Two unshared nodes reach 0.95 of the sum of both with 300 requests."""
    nodes = pair(Curve(slots=1), device=None)

    took, verdict = played(nodes, FEW, [])

    assert verdict is None
    assert sum(node.work(row.tokens) for row, node in zip(rows(FEW), nodes * FEW, strict=False)) / 2 / took >= 0.95


def test_two_nodes_that_only_seem_to_share() -> None:
    """Nodes put into one group by mistake are found to be nearly twice as fast together."""
    took, verdict = played(pair(Curve(slots=1), device=None), MANY, [(0, 1)])

    assert verdict is not None
    assert verdict.nodes == (0, 1)
    assert 0.9 < verdict.low < verdict.high < 1.1
    assert took <= 1.02 * played(pair(Curve(slots=1), device=None), MANY, [])[0]


def test_the_verdict_is_told_with_its_numbers() -> None:
    """Both rates, the interval and the choice."""
    verdict = Verdict(nodes=(1,), together=41.0, alone=43.2, low=-0.09, high=-0.01)

    assert str(verdict) == "41.0 tok/s together, 43.2 alone, 95 % interval -9 to -1 %: using one"


def test_the_other_node_takes_over() -> None:
    """When the node at work is lost, another of the group gets the requests."""
    strategy = make("auto", groups=[(0, 1)])
    play(strategy, *arrive(0, 1, 2), up(0), up(1), FirstToken(0.1, 0, 0, 1), finished(0, time=1.0))

    assert [node for _, node in sent(strategy.on_event(NodeLost(2.0, 0)))] == [1]


#: What an earlier run found of the nodes 0 and 1: that they are faster together.
BOTH = Verdict(nodes=(0, 1), together=80.0, alone=50.0, low=0.5, high=0.7, stored="2026-01-02")


def test_a_short_run_uses_what_is_stored() -> None:
    """A run that is too short to measure keeps to the verdict of an earlier one from its first request, and says so."""
    nodes = pair(ROOMY)
    strategy = make("auto", groups=[(0, 1)], known={(0, 1): BOTH})

    took = simulate(strategy, rows(FEW), nodes).makespan

    assert str(trials_of(strategy)[0].verdict).startswith("stored on 2026-01-02: 80.0 tok/s together, 50.0 alone, ")
    assert took <= 1.01 * played(nodes, FEW, [])[0]


def test_a_long_run_measures_again() -> None:
    """What is stored doesn't hold where the run can find out itself."""
    strategy = make("auto", groups=[(0, 1)], known={(0, 1): BOTH})

    simulate(strategy, rows(MANY), pair(CROWDED))

    verdict = trials_of(strategy)[0].verdict
    assert verdict is not None
    assert verdict.is_measured
    assert len(verdict.nodes) == 1


def test_the_user_decides() -> None:
    """A verdict that was not measured holds from the start, and only its node is used."""
    decided = Verdict(nodes=(0,), why="--together no")
    strategy = make("auto", groups=[(0, 1)], known={(0, 1): decided})

    result = simulate(strategy, rows(FEW), pair(ROOMY))

    assert {attempt.node for attempt in result.attempts} == {0}
    assert trials_of(strategy)[0].verdict == decided


@pytest.mark.parametrize("curve", [CROWDED, ROOMY, Curve(slots=1)], ids=["crowded", "roomy", "one slot"])
def test_a_verdict_that_holds_is_not_contradicted(curve: Curve) -> None:
    """The rest of a run bears out what its trial found."""
    strategy = make("auto", groups=[(0, 1)])

    simulate(strategy, rows(MANY), pair(curve))

    assert [trial.contradiction for trial in trials_of(strategy)] == [""]


def test_a_stored_verdict_that_no_longer_holds_is_contradicted() -> None:
    """Nodes that were faster together once, and are slower now than one was then."""
    strategy = make("auto", groups=[(0, 1)], known={(0, 1): BOTH})

    simulate(strategy, rows(FEW), pair(CROWDED))

    (trial,) = trials_of(strategy)
    assert trial.contradiction.startswith("but 1")
    assert trial.contradiction.endswith(" tok/s afterwards, clearly less than the 50.0 alone: not kept")

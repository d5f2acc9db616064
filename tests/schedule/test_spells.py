"""What the simulator makes of servers that misbehave, whatever the strategy does about it."""

from __future__ import annotations

import pytest

from schedule.stories import numbered
from tokenmill.event import (
    Action,
    Cancelled,
    Dispatch,
    Event,
    Failed,
    Finished,
    NodeUp,
    Probe,
    Probed,
    Stop,
    WakeAt,
    Woke,
)
from tokenmill.schedule import Fleet, make
from tokenmill.schedule.simulate import Faults, Outage, SimNode, Spell, simulate


class Told:
    """Sends all rows to node 0 when it is up, then does as it is told at each wake-up."""

    def __init__(self, *then: tuple[float, Action], rows: int = 1) -> None:
        self.first: list[Action] = [*(Dispatch(row, 0) for row in range(rows)), *(WakeAt(time) for time, _ in then)]
        self.then = list(then)
        self.seen: list[Event] = []

    def on_event(self, event: Event, /) -> list[Action]:
        self.seen.append(event)
        if isinstance(event, NodeUp) and event.node == 0:
            return self.first
        return [self.then.pop(0)[1]] if isinstance(event, Woke) and self.then else []


def ends(told: Told) -> list[tuple[str, float]]:
    return [
        (event.kind if isinstance(event, Failed) else "", event.time)
        for event in told.seen
        if isinstance(event, Failed | Finished)
    ]


def test_a_spell_fails_what_is_sent_during_it() -> None:
    """An attempt fails with the kind, the wish and after the time of the spell; one that was there before goes on."""
    told = Told((2.0, Dispatch(1, 0)))
    full = Spell(node=0, begins=1, ends=9, kind="busy", after=0.5, retry_after=7.0)

    simulate(told, numbered([3, 3]), [SimNode(slots=2)], Faults(spells=[full]))

    assert ends(told) == [("busy", 2.5), ("", 3.0)]
    assert [event.retry_after for event in told.seen if isinstance(event, Failed)] == [7.0]


def test_a_spell_may_cut_what_is_there() -> None:
    """A reset fails what runs when it begins."""
    told = Told()
    reset = Spell(node=0, begins=1, ends=9, kind="transient", after=0.0, cuts=True)

    simulate(told, numbered([3]), [SimNode()], Faults(spells=[reset]))

    assert ends(told) == [("transient", 1.0)]


def test_a_spell_may_spare_the_first() -> None:
    """Only what comes while so many requests are there is refused."""
    told = Told(rows=3)
    full = Spell(node=0, begins=0, ends=9, kind="busy", above=2)

    simulate(told, numbered([3, 3, 3]), [SimNode(slots=3)], Faults(spells=[full]))

    assert ends(told) == [("busy", 0.05), ("", 3.0), ("", 3.0)]


def test_a_load_delays_what_is_sent() -> None:
    """While a model loads nothing fails; what was sent begins when it is there."""
    told = Told()

    simulate(told, numbered([3]), [SimNode()], Faults(spells=[Spell(node=0, begins=0, ends=20, kind="")]))

    assert ends(told) == [("", 23.0)]


def test_a_late_answer_follows_its_failure() -> None:
    """After a timeout the answer may come all the same."""
    told = Told()
    silent = Spell(node=0, begins=0, ends=1, kind="timeout", after=5.0, late=2.0)

    simulate(told, numbered([3]), [SimNode()], Faults(spells=[silent]))

    assert ends(told) == [("timeout", 5.0), ("", 7.0)]


def test_a_probe_tells_how_the_server_is() -> None:
    """It fails as a request would, takes the time of one token else, and waits for a load."""
    probes = [(time, Probe(0)) for time in (1.0, 11.0, 21.0)]
    told = Told(*probes, rows=0)
    spells = [
        Spell(node=0, begins=0, ends=5, kind="busy", after=0.5, retry_after=3.0),
        Spell(node=0, begins=20, ends=30, kind=""),
    ]

    simulate(told, numbered([1]), [SimNode(overhead=0.25, speed=4.0)], Faults(spells=spells))

    assert [event for event in told.seen if isinstance(event, Probed)] == [
        Probed(1.5, 0, "busy", "", 3.0),
        Probed(11.5, 0),
        Probed(30.5, 0),
    ]


def test_a_probe_of_a_lost_node_fails() -> None:
    """A node that isn't up can't be reached."""
    told = Told((5.0, Probe(0)), rows=0)

    simulate(told, numbered([1]), [SimNode()], Faults(outages=[Outage(node=0, down=2)]))

    assert told.seen[-1] == Probed(5.05, 0, "unreachable")


def test_a_second_probe_at_the_same_time_is_refused() -> None:
    """No correct strategy asks a node that it is asking already."""
    told = Told((1.0, Probe(0)), (1.1, Probe(0)), rows=0)

    with pytest.raises(AssertionError, match="node 0 is probed already"):
        simulate(told, numbered([1]), [SimNode()])


def test_a_stop_ends_the_sending() -> None:
    """After it nothing is sent, what runs may end, and the reason is in the result."""
    told = Told((1.0, Stop("enough")), (2.0, Dispatch(1, 0)))

    result = simulate(told, numbered([3, 3]), [SimNode(slots=2)])

    assert ends(told) == [("", 3.0)]
    assert (result.stopped, result.unfinished) == ("enough", 1)


def test_nothing_may_be_sent_to_a_node_that_is_to_rest() -> None:
    """The simulator refuses a dispatch inside a fleet to a node that the fleet wants to rest."""

    class Deaf:
        """Doesn't hear that the node has no slots any more."""

        def on_event(self, event: Event, /) -> list[Action]:
            return [Dispatch(0, 0)] if isinstance(event, NodeUp | Cancelled) else []

    full = Spell(node=0, begins=0, ends=9, kind="busy")

    with pytest.raises(AssertionError, match="node 0 is to rest"):
        simulate(Fleet(Deaf()), numbered([3]), [SimNode()], Faults(spells=[full]))


def test_the_first_answer_ends_the_other_attempt() -> None:
    """Of two attempts of a row on two nodes the slower is cancelled in the moment of the answer."""
    told = Told((1.0, Dispatch(0, 1)))

    result = simulate(told, numbered([9]), [SimNode(), SimNode(speed=9.0)], legs=2)

    assert [(one.node, one.outcome, one.finished) for one in result.attempts] == [
        (1, "answered", 2),
        (0, "cancelled", 2),
    ]
    assert isinstance(told.seen[-1], Cancelled)


def test_a_run_may_be_cut_short() -> None:
    """Probes of a server that never answers would go on for ever; the simulation ends when it is told to."""
    gone = Spell(node=0, begins=0, ends=1e12, kind="unreachable")

    result = simulate(make(), numbered([1]), [SimNode()], Faults(spells=[gone]), until=1000.0)

    assert (result.unfinished, result.stopped, result.set_aside) == (1, None, {})

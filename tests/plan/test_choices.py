"""Sets of nodes in a plan, and what comparing them says."""

from __future__ import annotations

import pytest

from tokenmill.plan.choices import Choice, Unit, answers, growing, with_gain


def choice(*nodes: str, makespan: float) -> Choice:
    return Choice(nodes=nodes, slots=len(nodes), makespan=makespan, bound=makespan, binding="decode", rate=1.0)


def test_sets_grow_by_what_adds_most() -> None:
    """The fastest node comes first, and nodes that share its device only after it."""
    fast, slow = Unit(nodes=("fast",), rate=9.0), Unit(nodes=("slow",), rate=2.0)
    more = Unit(nodes=("more",), rate=9.0, after=("fast",), pace=0.9)
    assert growing([slow, more, fast]) == [(fast,), (fast, more), (fast, more, slow)]
    assert growing([]) == []


def test_gain_is_against_the_best_smaller_set() -> None:
    """A set is compared with every set of fewer nodes, and one node with nothing."""
    before = [choice("a", makespan=108), choice("b", makespan=200), choice("a", "b", makespan=60)]
    assert with_gain(choice("b", makespan=200), before).gain is None
    assert with_gain(choice("a", "c", makespan=81), before).gain == pytest.approx(0.25)
    assert with_gain(choice("a", "b", "c", makespan=66), before).gain == pytest.approx(-0.1)


def test_each_step_is_a_sentence() -> None:
    """A node that is added saves a part of the time, or nothing."""
    alone = [choice("a", makespan=108), choice("b", makespan=150), choice("c", makespan=900)]
    grown = [alone[0], choice("a", "b", makespan=67), choice("a", "b", "c", makespan=66.9)]
    assert answers(alone, grown) == [
        "b would save 38 % (41 s of 108 s)",
        "c would save nothing (66.9 s instead of 67 s)",
    ]
    assert answers(alone[:1], grown[:1]) == []


def test_nodes_that_come_together_are_named_together() -> None:
    """Where only all nodes of a device were measured together, the sentence is about all of them."""
    alone = [choice("a", makespan=3600)]
    assert answers(alone, [alone[0], choice("a", "b", "c", makespan=1800)]) == [
        "b and c would save 50 % (30 min of 60 min)"
    ]

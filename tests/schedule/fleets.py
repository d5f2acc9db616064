"""Shared by the stories of fleets: nodes with rows in flight, refusals, and what a fleet said."""

from __future__ import annotations

from schedule.stories import arrive, play, up
from tokenmill.event import (
    Action,
    Failed,
    WakeAt,
)
from tokenmill.schedule import Fleet, NodePolicy, State, make

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

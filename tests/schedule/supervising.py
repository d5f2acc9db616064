"""Shared by the stories of the supervisor."""

from __future__ import annotations

from schedule.stories import arrive, play, up
from tokenmill.event import Action, WakeAt
from tokenmill.schedule import RetryPolicy, Supervisor, make

PATIENT = RetryPolicy(patience=30.0)


def wakes(actions: list[Action]) -> list[float]:
    return [action.time for action in actions if isinstance(action, WakeAt)]


def supervised(strategy: str = "pull", *, seed: int = 0, policy: RetryPolicy | None = None) -> Supervisor:
    """The strategy with failure policy, without the states of nodes around it."""
    supervisor = make(strategy, seed=seed, policy=policy).inner
    assert isinstance(supervisor, Supervisor)
    return supervisor


def started(strategy: Supervisor, rows: int, slots: int) -> Supervisor:
    """The strategy with one node up and as many rows in flight as it takes."""
    play(strategy, *arrive(*range(rows)), up(0, slots=slots))
    return strategy

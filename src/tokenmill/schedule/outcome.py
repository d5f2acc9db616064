"""What is played in the simulator, and what came of it."""

from __future__ import annotations

from msgspec import Struct

from tokenmill.event import Action, Attempt, Event, SetAside
from tokenmill.schedule.fleet import Note


class SimRow(Struct, frozen=True, kw_only=True):
    """A row that takes `tokens` to answer; `length` is what the strategy is told, `tokens` if None."""

    row: int
    tokens: int
    length: float | None = None
    group: int = 0
    arrives: float = 0.0


class Simulated(Struct, frozen=True, kw_only=True):
    """What came of it: `attempts` in the order of their ends, `log` only if asked for.

    `attempted`: how many attempts there were, kept or not. `delivered`: events that the strategy was told.

    `makespan`: the moment of the last answer or final failure, seconds from 0. `stopped`: why the strategy ended the
    run. `wakes`: the most wake-ups that were asked for at the same time. `notes`: what a `Fleet` said of its nodes.
    """

    makespan: float
    stopped: str | None
    wakes: int
    notes: list[Note]
    attempts: list[Attempt]
    attempted: int
    delivered: int
    set_aside: dict[int, SetAside]
    unfinished: int
    log: list[tuple[Event, list[Action]]]

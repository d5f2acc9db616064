"""Where the seconds between the bound and the makespan went.

The states of the slots add up to the makespan (see `states`). Take the bound away: everything but generating is
missing as it stands, and of generating what exceeds the bound was slower than the best pace.

That remainder can be below zero. Idle slots don't cost their full share where the longest answer bounds the run, where
the others ran faster for it, or where even the best window had idle slots. So much idling is in the bound as well; it
is given as `unavoidable` and taken off the idle states, off the tail first where the longest answer is the bound. The
causes then sum to makespan - bound exactly.
"""

from __future__ import annotations

from msgspec import Struct

from tokenmill.report.bound import Bound
from tokenmill.report.states import States

#: What each cause is called where people read it.
NAMES = {
    "loading": "loading",
    "retried": "retried work",
    "cooling": "cooling",
    "client": "the client",
    "tail": "the tail",
    "slower": "slower than best pace",
}

#: A cause below this share of the makespan isn't worth naming as the largest.
WORTH_NAMING = 0.01


class Causes(Struct, frozen=True, kw_only=True):
    """Missing seconds by cause, all zero or more; they sum to `gap`. `largest` is a key of NAMES or empty."""

    gap: float
    loading: float
    retried: float
    cooling: float
    client: float
    tail: float
    slower: float
    unavoidable: float
    largest: str


def causes(states: States, bound: Bound, makespan: float) -> Causes | None:
    """The causes, or None where there is no bound to miss."""
    least = bound.bound.value
    if least is None:
        return None
    missing = {name: float(getattr(states, name)) for name in NAMES if name != "slower"}
    slower = states.generating - least
    unavoidable = max(0.0, -slower)
    first = [("tail",), ("client", "cooling")] if bound.binding == "longest" else [("tail", "client", "cooling")]
    left = unavoidable
    for group in (*first, ("loading", "retried")):
        left = _take_off(missing, group, left)
    missing["slower"] = max(0.0, slower)
    largest = max(missing, key=missing.__getitem__)
    is_small = missing[largest] < WORTH_NAMING * makespan
    gap = max(0.0, makespan - least)
    return Causes(gap=gap, unavoidable=unavoidable, largest="" if is_small else largest, **missing)


def _take_off(missing: dict[str, float], group: tuple[str, ...], amount: float) -> float:
    """Takes seconds off the causes of a group in proportion to their size; returns what was more than they had."""
    held = sum(missing[name] for name in group)
    taken = min(amount, held)
    for name in group:
        if held > 0:
            missing[name] = max(0.0, missing[name] * (1 - taken / held))
    return amount - taken

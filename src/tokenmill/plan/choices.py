"""Which sets of nodes a plan compares, and what the comparison says in words."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

#: A gain below this part of the time isn't worth a node.
WORTH = 0.01


class Unit(Struct, frozen=True, kw_only=True):
    """Nodes that are added to a set at once, which then makes `rate` tokens per second more.

    Where they share a device with the nodes `after`, all of these run at `pace` of what each does alone.
    """

    nodes: tuple[str, ...]
    rate: float
    after: tuple[str, ...] = ()
    pace: float = 1.0


class Choice(Struct, frozen=True, kw_only=True):
    """A set of nodes and what is predicted for it; `makespan` and `bound` in seconds, `rate` in tokens per second.

    `gain`: the part of the time that it saves against the best smaller set, None where there is none.
    """

    nodes: tuple[str, ...]
    slots: int
    makespan: float
    bound: float
    binding: str
    rate: float
    gain: float | None = None


def growing(units: Sequence[Unit]) -> list[tuple[Unit, ...]]:
    """Sets that grow by the unit that adds most, from one unit to all."""
    ordered = sorted(units, key=lambda unit: (-unit.rate, bool(unit.after)))
    return [tuple(ordered[: number + 1]) for number in range(len(ordered))]


def with_gain(choice: Choice, before: Sequence[Choice]) -> Choice:
    """The choice with what it saves against the best of those before it that have fewer nodes."""
    smaller = [each.makespan for each in before if len(each.nodes) < len(choice.nodes)]
    if not smaller:
        return choice
    best = min(smaller)
    return replace(choice, gain=1 - choice.makespan / best)


def answers(alone: Sequence[Choice], grown: Sequence[Choice]) -> list[str]:
    """One sentence for each step of the growing sets: what the nodes that are added would save."""
    said = []
    for number, after in enumerate(grown[1:], start=1):
        best = min((*alone, *grown[:number]), key=lambda choice: choice.makespan)
        added = " and ".join(node for node in after.nodes if node not in grown[number - 1].nodes)
        saved = best.makespan - after.makespan
        if saved >= WORTH * best.makespan:
            share = f"{100 * saved / best.makespan:.0f} %"
            said.append(f"{added} would save {share} ({_span(saved)} of {_span(best.makespan)})")
        else:
            said.append(f"{added} would save nothing ({_span(after.makespan)} instead of {_span(best.makespan)})")
    return said


def _span(seconds: float) -> str:
    """A duration with three digits, in the largest unit that makes it at least 2."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 10 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:.0f} s"

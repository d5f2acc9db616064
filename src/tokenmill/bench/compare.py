"""An old sweep against a new one: which cells became slower, by effect and interval."""

from __future__ import annotations

from msgspec import Struct

from tokenmill.bench.sweep import Results
from tokenmill.errors import UsageError
from tokenmill.stats.compare import LEAST, Comparison, compare

#: Chance of any false alarm among all cells compared.
CHANCE = 0.05


class Change(Struct, frozen=True, kw_only=True):
    """One cell in both sweeps, by the seconds (or the cost) of its whole readings; `unequal`: the answers differ."""

    cell: str
    comparison: Comparison
    unequal: bool


class Changes(Struct, frozen=True, kw_only=True):
    """`only_old`, `only_new`: cells without a partner. `differ`: what else differs between the two, in words."""

    old: str
    new: str
    changes: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    differ: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        return tuple(each for each in self.changes if each.comparison.is_regression)


def compare_sweeps(old: Results, new: Results, least: float = LEAST) -> Changes:
    """Cells are partners by group and factors. The level is Bonferroni's, so that many cells raise no more alarms.

    Raises:
        UsageError: no cell is in both.
    """
    seconds = [_seconds(old), _seconds(new)]
    digests = [_digests(old), _digests(new)]
    both = [cell for cell in seconds[0] if cell in seconds[1]]
    if not both:
        raise UsageError(f"{old.plan.sweep} and {new.plan.sweep} have no cell in common; compare sweeps of one suite")
    level = 1 - CHANCE / len(both)
    changes = tuple(
        Change(
            cell=cell,
            comparison=compare(seconds[0][cell], seconds[1][cell], least=least, level=level),
            unequal=digests[0][cell] != digests[1][cell],
        )
        for cell in both
    )
    return Changes(
        old=old.plan.sweep,
        new=new.plan.sweep,
        changes=changes,
        only_old=tuple(cell for cell in seconds[0] if cell not in seconds[1]),
        only_new=tuple(cell for cell in seconds[1] if cell not in seconds[0]),
        differ=_differ(old, new),
    )


def _seconds(results: Results) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for each in results.readings:
        if each.is_whole:
            found.setdefault(each.cell, []).append(each.compared)
    return found


def _digests(results: Results) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in results.readings:
        if each.is_whole:
            found.setdefault(each.cell, set()).add(each.digest)
    return found


def _differ(old: Results, new: Results) -> tuple[str, ...]:
    """What makes the sides less comparable, besides their date."""
    pairs = [("machine", old.plan.machine, new.plan.machine), ("versions", old.plan.versions, new.plan.versions)]
    said = [
        f"{name}: {key} {one.get(key, 'unknown')} then, {other.get(key, 'unknown')} now"
        for name, one, other in pairs
        for key in dict.fromkeys([*one, *other])
        if one.get(key) != other.get(key)
    ]
    then, now = old.plan.options, new.plan.options
    options = [key for key in dict.fromkeys([*then, *now]) if then.get(key) != now.get(key)]
    return (*said, *(f"option {key}: {then.get(key)} then, {now.get(key)} now" for key in options))

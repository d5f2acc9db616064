"""Targets such as `speedup@8>=4`: what was asked of a figure, and whether it was reached.

A target names a figure, optionally the point at which it counts (`@8`: eight in flight, or whatever the table's rows
are), a comparison and a limit, with a unit if it helps: `efficiency@8>50%`, `makespan<=2min`, `rss@pull<1.5GB`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import ge, gt, le, lt
from typing import Literal

from msgspec import Struct

from tokenmill.errors import InputFaults
from tokenmill.stats.interval import Interval
from tokenmill.stats.measure import Measure

_COMPARE = {">=": ge, "<=": le, ">": gt, "<": lt}
#: What a limit may be given in: the unit of figures it stands for, and its size there. No unit is that of the figure.
_UNITS = {
    "": (None, 1.0),
    "%": ("", 0.01),
    "x": ("", 1.0),
    "ms": ("s", 0.001),
    "s": ("s", 1.0),
    "min": ("s", 60.0),
    "h": ("s", 3600.0),
    "B": ("B", 1.0),
    "kB": ("B", 1e3),
    "MB": ("B", 1e6),
    "GB": ("B", 1e9),
    "MiB": ("B", 2.0**20),
    "GiB": ("B", 2.0**30),
}
_FORM = re.compile(
    r"(?P<name>[A-Za-z][\w.-]*)(@(?P<at>[\w.:/+-]+))?\s*(?P<sign>>=|<=|>|<)\s*"
    r"(?P<limit>[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?)\s*(?P<unit>[A-Za-z%/]*)"
)

Outcome = Literal["pass", "n/a", "fail"]
#: From best to worst: a target that could not be judged was not reached.
OUTCOMES: tuple[Outcome, ...] = ("pass", "n/a", "fail")


class Target(Struct, frozen=True, kw_only=True):
    """A `limit` for the figure `name` at the point `at`; `sign` is one of >=, <=, > and <, `unit` that of the limit."""

    name: str
    sign: str
    limit: float
    at: str = ""
    unit: str = ""

    @property
    def key(self) -> str:
        """The figure's name with its point: `speedup@8`."""
        return f"{self.name}@{self.at}" if self.at else self.name

    def __str__(self) -> str:
        return f"{self.key}{self.sign}{self.limit:.15g}{self.unit}"

    def judge(self, measured: Measure | Interval | None) -> Judged:
        """Whether the measured value reaches the target; None says that the figure was not measured at that point."""
        if measured is None:
            return Judged(target=self, outcome="n/a", reason="not measured")
        if measured.value is None:
            return Judged(target=self, outcome="n/a", unit=measured.unit, reason=measured.reason)
        unit, size = _UNITS[self.unit]
        # A ratio says what it is a ratio to: efficiency is "per slot", and still a plain number.
        found = "" if measured.unit.startswith("per ") else measured.unit
        if unit is not None and unit != found:
            reason = f"the target is in {self.unit}, the figure in {measured.unit or 'no unit'}"
            return Judged(target=self, outcome="n/a", value=measured.value, unit=measured.unit, reason=reason)
        reaches, limit = _COMPARE[self.sign], self.limit * size
        clear = None
        if isinstance(measured, Interval) and measured.low is not None and measured.high is not None:
            clear = reaches(measured.low, limit) == reaches(measured.high, limit)
        outcome: Outcome = "pass" if reaches(measured.value, limit) else "fail"
        return Judged(target=self, outcome=outcome, value=measured.value, unit=measured.unit, is_clear=clear)


class Judged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a target: the `value` measured in its `unit`, or the `reason` why it can't be judged.

    The value decides. `is_clear` says whether the whole interval lies on the same side of the limit, None without one:
    an outcome that isn't clear may be another one next time.
    """

    target: Target
    outcome: Outcome
    value: float | None = None
    unit: str = ""
    reason: str = ""
    is_clear: bool | None = None


def parse(texts: Sequence[str], known: Collection[str]) -> tuple[Target, ...]:
    """Reads targets; `known` are the names of the figures that the benchmark measures.

    Raises:
        InputFaults: all texts that are no target or name no known figure.
    """
    targets: list[Target] = []
    faults: list[str] = []
    for text in texts:
        found = _FORM.fullmatch(text.strip())
        if found is None:
            faults.append(f"{text!r} is no target; write such as 'speedup@8>=4' or 'makespan<=2min'")
        elif found["name"] not in known:
            faults.append(f"{text!r} names the figure {found['name']!r}; known: {', '.join(sorted(known))}")
        elif found["unit"] not in _UNITS:
            units = ", ".join(unit for unit in _UNITS if unit)
            faults.append(f"{text!r} has the unit {found['unit']!r}; known: {units}, or none for the figure's own")
        else:
            limit = float(found["limit"])
            target = Target(
                name=found["name"], sign=found["sign"], limit=limit, at=found["at"] or "", unit=found["unit"]
            )
            targets.append(target)
    if faults:
        raise InputFaults("--target", faults)
    return tuple(targets)


def judge_all(targets: Iterable[Target], figures: Mapping[str, Measure | Interval]) -> tuple[Judged, ...]:
    """Judges each target by the figure under its key, such as `speedup@8`."""
    return tuple(target.judge(figures.get(target.key)) for target in targets)


def worst(judged: Iterable[Judged]) -> Outcome:
    """The worst outcome of all, which is what a command's exit status tells; pass if there were no targets."""
    return max((one.outcome for one in judged), key=OUTCOMES.index, default="pass")

"""The parts of this machine whose energy can be counted, each with the best way there is.

A GPU's own counter comes before its power, which is a sample now and then; for processors and their memory there is
only RAPL. A part for which there is no way is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenmill.footprint import EnergyUse
from tokenmill.resources import rapl
from tokenmill.resources.curves import Curves
from tokenmill.resources.energy import Counted, Integrated
from tokenmill.resources.gpu import Reading

COUNTER = "NVML total-energy counter"
POWER = "NVML power, integrated"
RAPL = "RAPL"
#: Joules of one count of the counter of a GPU.
GPU_STEP = 1e-3


class Meter:
    """The energy of one part; `method` None means that there is none, for the reason."""

    def __init__(self, part: str, source: str, method: Counted | Integrated | None, reason: str = "") -> None:
        self.part = part
        self.step = {COUNTER: GPU_STEP, RAPL: rapl.STEP}.get(source)
        self._source = source
        self._method = method
        self._reason = reason

    @property
    def curve(self) -> str:
        """The name of its power among the curves."""
        return f"power {self.part}"

    def count(self, now: float, count: int | None) -> float | None:
        return self._method.add(now, count) if isinstance(self._method, Counted) else None

    def weigh(self, now: float, watts: float | None) -> float | None:
        return self._method.add(now, watts) if isinstance(self._method, Integrated) else None

    def use(self, curves: Curves) -> EnergyUse:
        joules, reason = self._method.joules() if self._method is not None else (None, self._reason)
        power = curves.curve(self.curve, "W", self._reason)
        return EnergyUse(part=self.part, source=self._source, joules=joules, reason=reason, step=self.step, power=power)


def gpu_meter(name: str, first: Reading) -> Meter:
    """The best way for a GPU, by what it answered first."""
    if first.counter is not None:
        return Meter(name, COUNTER, Counted(GPU_STEP))
    if first.watts is not None:
        return Meter(name, POWER, Integrated())
    return Meter(name, "", None, "; ".join(dict.fromkeys(first.reasons.values())))


def processor_meters(root: Path) -> list[tuple[rapl.Zone, Meter]]:
    """One for each counter of a processor or its memory."""
    return [
        (zone, Meter(zone.name, RAPL, None if zone.fault else Counted(rapl.STEP, zone.range), zone.fault))
        for zone in rapl.zones(root)
    ]


def uses(meters: Iterable[Meter], curves: Curves, root: Path) -> tuple[EnergyUse, ...]:
    """What all parts took; processors are listed with the reason where they have no counter."""
    found = [meter.use(curves) for meter in meters]
    if not any(use.source == RAPL for use in found):
        found.append(Meter("processor", "", None, rapl.why_none(root)).use(curves))
    return tuple(found)

"""This machine while a session goes on: everything that is looked at, and what it adds up to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from tokenmill.footprint import Footprint, GpuUse, OwnProcess
from tokenmill.resources import rapl
from tokenmill.resources.curves import SHORTEST, Curves
from tokenmill.resources.gpu import Gpus, Reading
from tokenmill.resources.meters import Meter, gpu_meter, processor_meters, uses
from tokenmill.resources.process import PROC, machine_seconds
from tokenmill.resources.roster import Roster

Fresh = Callable[[], Iterable[tuple[str, OwnProcess]]]


class Host:
    """Looked at from one thread; `fresh` tells of the processes that engines started since it was asked last."""

    def __init__(
        self, start: float, fresh: Fresh, gpus: Gpus, *, proc: Path = PROC, powercap: Path = rapl.POWERCAP
    ) -> None:
        self._curves = Curves(start)
        self._fresh = fresh
        self._gpus = gpus
        self._proc = proc
        self._powercap = powercap
        self._roster = Roster(proc)
        self._zones = processor_meters(powercap)
        self._meters: list[Meter] = []
        self._first: list[Reading] = []
        self._worked: tuple[float, float] | None = None  # a time, and the processor time by then
        self._machine_reason = ""
        self._load_reason = ""
        self._last = start
        self._samples = 0

    def begin(self, now: float) -> None:
        """The readings from which differences are taken."""
        self._first = [self._gpus.read(number) for number in range(len(self._gpus.names))]
        self._meters = [gpu_meter(name, first) for name, first in zip(self._gpus.names, self._first, strict=True)]
        self._look(now)

    def sample(self, now: float) -> None:
        """One sample of everything; not for two moments that are the same."""
        values = self._look(now)
        self._curves.add(now, values)
        self._samples += 1

    def footprint(self, *, interval: float, spent: float, is_whole: bool, elsewhere: tuple[str, ...]) -> Footprint:
        """What the session took so far; `spent` is the processor time of the looking."""
        curves, energy = self._curves, [*self._meters, *(meter for _, meter in self._zones)]
        return Footprint(
            interval=interval,
            start=curves.start,
            times=tuple(round(time, 3) for time in curves.times),
            samples=self._samples,
            is_whole=is_whole,
            spent=spent,
            lasted=self._last - curves.start,
            cores=os.cpu_count() or 1,
            machine=curves.curve("machine", "%", self._machine_reason),
            load=curves.curve("load", "", self._load_reason),
            processes=self._roster.uses(curves, is_last=is_whole),
            omitted=self._roster.omitted,
            gpus=tuple(self._gpu(number) for number in range(len(self._first))),
            no_gpu=self._gpus.reason,
            energy=uses(energy, curves, self._powercap),
            elsewhere=elsewhere,
        )

    def _look(self, now: float) -> dict[str, float | None]:
        self._roster.join(self._fresh())
        values = self._roster.look(now)
        values |= {"machine": self._machine(now), "load": self._load()}
        for number, meter in enumerate(self._meters):
            seen = self._gpus.read(number)
            values |= {f"busy {number}": seen.busy, f"memory {number}": seen.memory}
            mean = meter.count(now, seen.counter)
            weighed = meter.weigh(now, seen.watts)
            values[meter.curve] = mean if mean is not None else weighed
        for zone, meter in self._zones:
            values[meter.curve] = meter.count(now, rapl.read(zone))
        self._last = now
        return values

    def _machine(self, now: float) -> float | None:
        """Percent of one core that all programs together took since the last look."""
        worked = machine_seconds(self._proc)
        if isinstance(worked, str):
            self._machine_reason = worked
            return None
        mark = self._worked
        if mark is not None and now - mark[0] < SHORTEST:
            return None
        self._worked = now, worked
        return None if mark is None else 100 * (worked - mark[1]) / (now - mark[0])

    def _load(self) -> float | None:
        try:
            return os.getloadavg()[0]
        except OSError as error:
            self._load_reason = f"the system doesn't tell ({error.strerror})"
            return None

    def _gpu(self, number: int) -> GpuUse:
        first = self._first[number]
        busy = self._curves.curve(f"busy {number}", "%", first.reasons.get("busy", ""))
        memory = self._curves.curve(f"memory {number}", "B", first.reasons.get("memory", ""))
        return GpuUse(name=self._gpus.names[number], total=first.total, busy=busy, memory=memory)

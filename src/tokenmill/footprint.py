"""What a session of a run took of the machine it ran on: processor, memory, GPU, power and energy.

Only what was read is here; ratios are computed where they are shown. Sizes are bytes, times seconds on the session's
clock, energy joules, power watts, and a processor's load percent of one core. A value of None was not measured, and
its `reason` says why: nothing that wasn't measured is ever 0.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from resource import struct_rusage


class Ended(Struct, frozen=True, kw_only=True):
    """What the system says of a process of ours once it is gone, over its whole life.

    `peak_rss` is at least what its parent held when it was started: the kernel counts that in.
    """

    peak_rss: int
    cpu_seconds: float

    @classmethod
    def of(cls, used: struct_rusage, platform: str = sys.platform) -> Ended:
        """From what `wait4` or `getrusage` says. Linux and the BSDs count `ru_maxrss` in KiB, macOS in bytes."""
        unit = 1 if platform == "darwin" else 1024
        return cls(peak_rss=used.ru_maxrss * unit, cpu_seconds=used.ru_utime + used.ru_stime)


class OwnProcess(Protocol):
    """A process that an engine started and waits for; `end` is None while it runs."""

    @property
    def pid(self) -> int: ...

    @property
    def end(self) -> Ended | None: ...


class Curve(Struct, frozen=True, kw_only=True):
    """A quantity over time: at each of `Footprint.times` the mean since the one before, and the largest sample."""

    unit: str
    means: tuple[float | None, ...] = ()
    maxima: tuple[float | None, ...] = ()
    reason: str = ""


class ProcessUse(Struct, frozen=True, kw_only=True):
    """One process of ours. `peak_rss` is the kernel's own high-water mark at its end.

    `seen_peak` is the same mark as it was last read while the process ran, for when its end was not seen.
    """

    name: str
    pid: int
    peak_rss: int | None
    peak_reason: str
    seen_peak: int | None
    cpu_seconds: float | None
    cpu: Curve
    rss: Curve


class GpuUse(Struct, frozen=True, kw_only=True):
    """One GPU, whatever programs use it. `total` is its memory in bytes."""

    name: str
    total: int | None
    busy: Curve
    memory: Curve


class EnergyUse(Struct, frozen=True, kw_only=True):
    """What one part of the machine took during the session, whatever programs use it.

    `source` says how it was measured, `step` how many joules one count of its counter is, None without a counter.
    """

    part: str
    source: str
    joules: float | None
    reason: str
    step: float | None
    power: Curve


class Footprint(Struct, frozen=True, kw_only=True):
    """One session. `times` are the ends of the intervals that all curves share, the first one starts at `start`.

    `is_whole`: the session came to its end; else this is how far it was when it was last written down. `spent` is
    processor time the sampling itself took, `lasted` how long it went on. `omitted`: processes beyond those listed.
    `elsewhere` names the nodes that are no part of this machine, so nothing of theirs is in here.
    """

    interval: float
    start: float
    times: tuple[float, ...]
    samples: int
    is_whole: bool
    spent: float
    lasted: float
    cores: int
    machine: Curve
    load: Curve
    processes: tuple[ProcessUse, ...]
    omitted: int
    gpus: tuple[GpuUse, ...]
    no_gpu: str
    energy: tuple[EnergyUse, ...]
    elsewhere: tuple[str, ...] = ()

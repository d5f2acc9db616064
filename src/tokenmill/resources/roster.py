"""The processes of a session: the driver itself, and those that engines started."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tokenmill.footprint import Ended, OwnProcess, ProcessUse
from tokenmill.resources.curves import SHORTEST, Curves
from tokenmill.resources.process import PROC, Seen, look, own_peak, peak_of

#: Processes that are listed; a node whose worker dies again and again has many.
MOST = 32
DRIVER = "driver"
UNSEEN = "its end was not seen"


class Own:
    """This process, which outlives the session: its end for the footprint is the end of the sampling."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.end: Ended | None = None


class Watched:
    """One process and what was seen of it."""

    def __init__(self, name: str, process: OwnProcess, inherited: int | None) -> None:
        self.name = name
        self.process = process
        self.first_cpu: float | None = None
        self.last: Seen | None = None
        self._mark: tuple[float, float] | None = None  # a time, and the processor time by then
        self.peak: int | None = None
        self.reason = ""
        self._inherited = inherited

    @property
    def key(self) -> str:
        return f"{self.name} {self.process.pid}"

    def look(self, now: float, proc: Path) -> dict[str, float | None]:
        """Its values for the curves; none once it is gone."""
        if self.process.end is not None:
            return {}
        seen = look(self.process.pid, proc)
        if self.last is not None and seen.born != self.last.born:
            return {}  # its number, if anything, belongs to another by now
        if self.last is None:
            self.first_cpu = seen.cpu
        self.last = seen
        self.peak = seen.peak if seen.peak is not None else self.peak
        self.reason = seen.reason
        return {f"rss {self.key}": seen.rss, f"cpu {self.key}": self._percent(now, seen.cpu)}

    def _percent(self, now: float, cpu: float | None) -> float | None:
        """Of one core, since it was said last."""
        if cpu is None:
            return None
        mark = self._mark
        if mark is None or now - mark[0] >= SHORTEST:
            self._mark = now, cpu
        return None if mark is None or self._mark == mark else 100 * (cpu - mark[1]) / (now - mark[0])

    def use(self, curves: Curves, *, is_last: bool) -> ProcessUse:
        """What it took so far; of the driver, since the session began."""
        if isinstance(self.process, Own):
            peak, why = (own_peak(), "") if is_last else (None, "the session ended by force")
            first = self.first_cpu
        else:
            peak, why = peak_of(self.process, self.peak, self._inherited)
            why = UNSEEN if is_last and self.process.end is None else why
            first = 0.0
        end = self.process.end
        cpu = end.cpu_seconds if end is not None else self.last.cpu if self.last is not None else None
        return ProcessUse(
            name=self.name,
            pid=self.process.pid,
            peak_rss=peak,
            peak_reason=why,
            seen_peak=self.peak,
            cpu_seconds=None if cpu is None or first is None else cpu - first,
            cpu=curves.curve(f"cpu {self.key}", "%", self.reason),
            rss=curves.curve(f"rss {self.key}", "B", self.reason),
        )


class Roster:
    """All processes that were ever seen, the first MOST of them by name."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._listed = [Watched(DRIVER, Own(), None)]
        self.omitted = 0

    def join(self, fresh: Iterable[tuple[str, OwnProcess]]) -> None:
        """Takes in processes that were started since."""
        for name, process in fresh:
            if len(self._listed) < MOST:
                self._listed.append(Watched(name, process, own_peak()))
            else:
                self.omitted += 1

    def look(self, now: float) -> dict[str, float | None]:
        """The values of all of them for the curves."""
        values: dict[str, float | None] = {}
        for watched in self._listed:
            values |= watched.look(now, self._proc)
        return values

    def uses(self, curves: Curves, *, is_last: bool) -> tuple[ProcessUse, ...]:
        return tuple(watched.use(curves, is_last=is_last) for watched in self._listed)

"""How many requests at a time give a node its greatest throughput.

Throughput is requests that run, divided by the time per output token. While it grows with the number in flight the
number is raised, the faster the steeper it grows; where it stops growing, the number stays. Whole latency says nothing
here, because it follows the length of the answers. Comparing what a little more load brings with what it costs is the
idea of TCP Vegas (Brakmo and Peterson, 1995) and of Gradient2 in Netflix's concurrency-limits; they compare delays,
and stop where the delay rises. In a model's server the delay per token rises with every request of a batch while the
throughput still grows, so here the throughput itself is what has to rise.
"""

from __future__ import annotations

from math import log

#: Chunks that must be seen at a level before it is judged good enough to go on, and before it is judged bad.
ENOUGH, SURE = 6.0, 24.0
#: Seconds too, before it is judged bad: a quick node sends as many chunks within one short stall of this machine.
LASTING = 0.5
#: Chunks remembered of a level; what is older fades.
MEMORY = 512.0
#: Growth of throughput per growth of load, both as logarithms: 1 for a node that others don't slow down.
STEEP, FAIR, FLAT = 0.75, 0.3, 0.05
#: Answers between two looks at other levels: at first, and at most.
PATIENCE, PATIENCE_CAP = 32, 1024


class _Level:
    """Throughput seen with so many in flight, in chunks per second, and for how many seconds."""

    __slots__ = ("chunks", "seconds", "throughput")

    def __init__(self) -> None:
        self.chunks = self.seconds = self.throughput = 0.0

    def add(self, throughput: float, chunks: float) -> None:
        self.seconds += chunks / throughput
        self.chunks = min(self.chunks, MEMORY) + chunks
        self.throughput += (throughput - self.throughput) * chunks / self.chunks

    @property
    def is_known(self) -> bool:
        return self.chunks >= ENOUGH

    @property
    def is_sure(self) -> bool:
        return self.chunks >= SURE and self.seconds >= LASTING


class Knee:
    """Climbs from level to level until throughput stops growing, and looks again from time to time.

    `target` is the number in flight that is tried or held, None before anything was measured.
    """

    def __init__(self) -> None:
        self.target: int | None = None
        self._levels: dict[int, _Level] = {}
        self._bad: int | None = None  # a level known to be past the knee
        self._is_settled = False
        self._answers = 0
        self._patience = PATIENCE
        self._goes_down = False

    def watch(self, in_flight: int) -> None:
        """The node tells its pace, so from now on no level is left before it was measured."""
        if self.target is None:
            self.target = in_flight

    def add(self, in_flight: int, throughput: float, chunks: float) -> None:
        """So many chunks came while so many requests were in flight."""
        self.watch(in_flight)
        self._levels.setdefault(in_flight, _Level()).add(throughput, chunks)
        if in_flight == self.target and self._levels[in_flight].is_known and not self._is_settled:
            self._judge(in_flight)

    def answered(self, ceiling: int) -> None:
        """An answer came. After many, the levels beside the present one are measured anew, above and below in turn."""
        self._answers += 1
        if self._is_settled and self._answers >= self._patience and self.target is not None:
            self._look_again(self.target, ceiling)

    def _judge(self, here: int) -> None:
        lower = max((level for level in self._levels if level < here and self._levels[level].is_known), default=None)
        if lower is None:
            self._climb(here, 0 if self._goes_down else here if here < 4 else here // 2)
            return
        now, before = self._levels[here].throughput, self._levels[lower].throughput
        slope = log(now / before) / log(here / lower)
        if slope >= STEEP:
            self._climb(here, here)
        elif slope >= FAIR:
            self._climb(here, max(1, here // 4))
        elif slope >= FLAT:
            self._climb(here, 1)
        elif self._levels[here].is_sure:
            self._bad = here
            self._climb(lower, (here - lower) // 2)

    def _climb(self, level: int, step: int) -> None:
        """Tries a level further up, below any that is known to be bad; settles when there is none."""
        if self._bad is not None:
            step = min(step, self._bad - 1 - level)
        if step > 0:
            self.target = level + step
        else:
            self._settle()

    def _settle(self) -> None:
        """Holds the best level there is; the lower one if it hardly matters."""
        known = {level: seen.throughput for level, seen in self._levels.items() if seen.is_known}
        most = max(known.values())
        self.target = min(level for level, throughput in known.items() if throughput >= 0.99 * most)
        self._is_settled = True
        self._answers = 0

    def _look_again(self, here: int, ceiling: int) -> None:
        self._levels = {level: seen for level, seen in self._levels.items() if level == here}
        self._bad, self._is_settled = None, False
        self._patience = min(2 * self._patience, PATIENCE_CAP)
        self._goes_down = not self._goes_down
        step = max(1, here // 8)
        self.target = max(1, here - step) if self._goes_down else min(ceiling, here + step)

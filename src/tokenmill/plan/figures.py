"""What was measured of a node once, in the form in which it is kept, and the speed that it shows.

A `Figure` holds what a check saw, a `Speed` is what a simulation needs. Nothing here is a default: a node without a
measured pace has no `Speed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.plan.identity import Sighting
from tokenmill.plan.ramp import TAIL, Burst


class Step(Struct, frozen=True):
    """So many answers were being written at the same time, each at `pace` tokens per second."""

    running: int
    pace: float


class Figure(Struct, frozen=True, kw_only=True):
    """One node with one model, as a check found it at the moment `checked` (local time, ISO 8601).

    `host` and `device` are those under which the paces of runs are kept. `slots` is None if they weren't measured;
    `is_full` says whether they are all there are. `first_token`: seconds, of a request alone. `steps` is empty for an
    engine that a check sends nothing. `sighting` is the evidence about its hardware.
    """

    node: str
    address: str
    engine: str
    model: str
    digest: str
    host: str
    device: str
    checked: str
    sighting: Sighting
    version: str = ""
    context: int | None = None
    slots: int | None = None
    is_full: bool = False
    first_token: float | None = None
    steps: tuple[Step, ...] = ()
    versions: dict[str, str] = {}

    @property
    def key(self) -> tuple[str, str]:
        return self.address, self.digest

    @property
    def day(self) -> str:
        return self.checked.partition("T")[0]


class Speed(Struct, frozen=True, kw_only=True):
    """How fast a node answers: tokens per second of one request `alone`, and how that falls with load.

    Of `n` requests each runs at `1 / (1 + serial * (n - 1) + coherence * n * (n - 1))` of the pace of one alone, and at
    most `slots` run. `first_token`: seconds from sending to the first token, None if that wasn't measured apart.
    """

    slots: int
    alone: float
    serial: float = 0.0
    coherence: float = 0.0
    first_token: float | None = None

    def rate(self, running: int) -> float:
        """Tokens per second of so many requests together."""
        load = 1 + self.serial * (running - 1) + self.coherence * running * (running - 1)
        return running * self.alone / load

    @property
    def best(self) -> float:
        """The most tokens per second that it writes with any number of requests up to its slots."""
        return max(self.rate(running) for running in range(1, self.slots + 1))


def steps_of(bursts: Iterable[Burst]) -> tuple[Step, ...]:
    """The paces that bursts show, by the number of answers that were being written, the fewest first.

    Of a burst only the answers count that had begun before the first of them ended: those after it ran with fewer.
    """
    seen: dict[int, list[float]] = {}
    for burst in bursts:
        shots = [shot for shot in burst.shots if shot.tokens > 1 and shot.last > shot.first]
        if not shots or not burst.is_telling:
            continue
        first_end = min(shot.last - TAIL * (shot.last - shot.first) for shot in shots)
        wave = [shot for shot in shots if shot.first < first_end]
        pace = median((shot.tokens - 1) / (shot.last - shot.first) for shot in wave)
        seen.setdefault(len(wave), []).append(pace)
    return tuple(Step(running, median(paces)) for running, paces in sorted(seen.items()))


def speed_of(figure: Figure) -> Speed | None:
    """The speed that a check measured; None if it measured none."""
    alone = next((step.pace for step in figure.steps if step.running == 1), None)
    if alone is None or figure.slots is None:
        return None
    serial, coherence = fit(figure.steps, alone)
    return Speed(slots=figure.slots, alone=alone, serial=serial, coherence=coherence, first_token=figure.first_token)


def wider(figure: Figure, width: float, decode: float) -> Figure:
    """The figure with what a run showed that had more requests there than the check: `decode` tokens per second."""
    slots = round(width)
    steps = [step for step in figure.steps if step.running < slots]
    return replace(figure, slots=slots, steps=(*steps, Step(slots, decode / width)))


def speed_from_runs(slots: int, single_stream: float, decode: float, width: float) -> Speed | None:
    """The speed of a node that only runs have measured, from the best that they showed.

    `single_stream`: seconds per token of one request; `decode`: tokens per second of all together; `width`: how many
    ran at the same time. 0 for what was never measured; without a pace there is no speed.
    """
    if single_stream <= 0:
        return None
    alone = 1 / single_stream
    if slots == 1:
        return Speed(slots=1, alone=alone)
    if decode <= 0 or width <= 1:
        return None
    serial, _ = fit([Step(round(max(2.0, width)), decode / max(2.0, width))], alone)
    return Speed(slots=slots, alone=alone, serial=serial)


def fit(steps: Sequence[Step], alone: float) -> tuple[float, float]:
    """`serial` and `coherence` of the universal scalability law by least squares, neither below 0.

    What a pace lacks, `alone / pace - 1`, is linear in both. Two of them need two points with several requests; with
    one, all of it is taken as `serial`, which makes no knee where none was seen.
    """
    points = [(step.running - 1, step.running * (step.running - 1), alone / step.pace - 1) for step in steps]
    points = [point for point in points if point[0]]
    if not points:
        return 0.0, 0.0
    aa = sum(a * a for a, _, _ in points)
    bb = sum(b * b for _, b, _ in points)
    ab = sum(a * b for a, b, _ in points)
    ay = sum(a * y for a, _, y in points)
    by = sum(b * y for _, b, y in points)
    only_serial, only_coherence = max(0.0, ay / aa), max(0.0, by / bb)
    size = aa * bb - ab * ab
    if len(points) < 2 or size <= 1e-9 * aa * bb:
        return only_serial, 0.0
    serial, coherence = (ay * bb - by * ab) / size, (by * aa - ay * ab) / size
    if serial >= 0 and coherence >= 0:
        return serial, coherence
    return min(
        [(only_serial, 0.0), (0.0, only_coherence)],
        key=lambda found: sum((found[0] * a + found[1] * b - y) ** 2 for a, b, y in points),
    )

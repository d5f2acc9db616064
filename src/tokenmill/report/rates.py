"""The best rate a device held: tokens per second over a sliding window of the time it did that kind of work.

Tokens of an attempt are taken as made evenly over its interval, so the tokens of a device are a piecewise linear
curve and the best window begins or ends at one of its corners. A window is `WINDOW` seconds or `SHARE` of the run,
whichever is longer, and it is cut from work time: seconds in which the device had nothing of that kind to do don't
count, since a pace watered down by idling would be a limit that the hardware could beat. With less work time than
one window, the window is all of it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from msgspec import Struct

from tokenmill.report.timeline import CLOSES, DISPATCHED, INSTANT, OPENS, Timeline, moments

WINDOW = 2.0
SHARE = 0.05


class WorkTime:
    """A set of intervals seen in order of time: `total` is their summed length, `busy` the length of their union."""

    def __init__(self) -> None:
        self.active = 0
        self.since = 0.0
        self.total = 0.0
        self.busy = 0.0

    def open(self, time: float, length: float) -> None:
        if not self.active:
            self.since = time
        self.active += 1
        self.total += length

    def close(self, time: float) -> None:
        self.active -= 1
        if not self.active:
            self.busy += time - self.since

    @property
    def overlap(self) -> float:
        """How many intervals ran at the same time, on average over the work time; 0 without any."""
        return self.total / self.busy if self.busy > 0 else 0.0


class Rate(Struct, frozen=True):
    """`best` tokens per second in a window of `window` seconds of work time; `total` tokens in all."""

    best: float
    window: float
    total: float


class Curve:
    """Tokens a device made over its work time: `made[i]` tokens in the first `corners[i]` seconds of it."""

    def __init__(self) -> None:
        self.corners = array("d", [0.0])
        self.made = array("d", [0.0])
        self.active = 0
        self.slope = 0.0
        self.since = 0.0

    @property
    def busy(self) -> float:
        """Work time in seconds."""
        return self.corners[-1]

    @property
    def total(self) -> float:
        """Tokens made in all of it."""
        return self.made[-1]

    def step(self, time: float, what: int, slope: float) -> None:
        """An interval of `slope` tokens per second opens or closes."""
        passed = time - self.since
        self.since = time
        if self.active and passed > 0:
            self.corners.append(self.corners[-1] + passed)
            self.made.append(self.made[-1] + self.slope * passed)
        if what == OPENS:
            self.active += 1
            self.slope += slope
            return
        self.active -= 1
        # Restarting from 0 keeps rounding from piling up over a long run.
        self.slope = max(0.0, self.slope - slope) if self.active else 0.0

    def rate(self, makespan: float) -> Rate:
        """The best rate in a run of this length, at least that of all the work time."""
        window = min(max(WINDOW, SHARE * makespan), self.busy)
        if window <= 0:
            return Rate(0.0, 0.0, 0.0)
        best = max(_most_in_window(self.corners, self.made, window) / window, self.total / self.busy)
        return Rate(best, window, self.total)


class Work(Struct):
    """What was written or read: a curve per device, its work time per device and that of the whole run."""

    curves: list[Curve]
    times: list[WorkTime]
    overall: WorkTime


def reading(timeline: Timeline, device_of: list[int]) -> Work:
    """Prompt tokens, from the moment a slot was free until output began; `device_of` places each node."""
    opens = array("d", map(min, timeline.started, timeline.wrote))
    closes = array("d")
    for index, wrote in enumerate(timeline.wrote):
        until = wrote if timeline.streamed[index] else timeline.finished[index]
        closes.append(max(until, opens[index] + INSTANT))
    return _work(timeline, device_of, timeline.prompt, opens, closes)


def writing(timeline: Timeline, device_of: list[int]) -> Work:
    """Output tokens, from the moment output began until the end: the generation intervals of the audit."""
    pairs = zip(timeline.wrote, timeline.finished, strict=True)
    closes = array("d", (max(finished, wrote + INSTANT) for wrote, finished in pairs))
    return _work(timeline, device_of, timeline.output, timeline.wrote, closes)


def _work(
    timeline: Timeline, device_of: list[int], tokens: array[int], opens: array[float], closes: array[float]
) -> Work:
    count = max(device_of, default=-1) + 1
    curves, times, overall = [Curve() for _ in range(count)], [WorkTime() for _ in range(count)], WorkTime()
    for time, what, index in moments(opens, closes, timeline.dispatched):
        if what == DISPATCHED:
            continue
        device = device_of[timeline.node[index]]
        length = closes[index] - opens[index]
        curves[device].step(time, what, tokens[index] / length)
        if what == CLOSES:
            times[device].close(time)
            overall.close(time)
        else:
            times[device].open(time, length)
            overall.open(time, length)
    return Work(curves, times, overall)


def _most_in_window(corners: array[float], made: array[float], width: float) -> float:
    """The most tokens in any window of `width` seconds: the best one begins or ends at a corner."""
    begins = max(after - here for after, here in zip(_made_at(corners, made, width), made, strict=True))
    ends = max(here - before for before, here in zip(_made_at(corners, made, -width), made, strict=True))
    return max(begins, ends)


def _made_at(corners: array[float], made: array[float], shift: float) -> Iterator[float]:
    """The tokens made until `shift` seconds after each corner, by one walk along the curve."""
    low, last = 0, corners[-1]
    for corner in corners:
        time = corner + shift
        if time <= 0:
            yield made[0]
        elif time >= last:
            yield made[-1]
        else:
            while corners[low + 1] < time:
                low += 1
            share = (time - corners[low]) / (corners[low + 1] - corners[low])
            yield made[low] + share * (made[low + 1] - made[low])

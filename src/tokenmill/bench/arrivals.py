"""When requests of an open loop are due: times that don't wait for any answer. Pure, and seeded.

Three shapes: `poisson`, gaps drawn from an exponential distribution, as of many users who know nothing of each other;
`constant`, equal gaps; and those of a file, one time in seconds a line, whose gaps are repeated from the start when
they are used up. Each is stretched to the rate that is asked for, so shapes can be compared at equal load.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from math import isfinite, log
from pathlib import Path
from random import Random

from tokenmill.errors import UsageError

POISSON, CONSTANT = "poisson", "constant"


def poisson(rate: float, seed: str) -> Iterator[float]:
    """Times without end, `rate` a second on average; only `random()` is used, the sequence that Python keeps."""
    random, now = Random(seed), 0.0
    while True:
        now -= log(1.0 - random.random()) / rate
        yield now


def constant(rate: float) -> Iterator[float]:
    """Times without end, one every 1 / `rate` seconds."""
    return (number / rate for number in itertools.count(1))


def recorded(times: Sequence[float], rate: float) -> Iterator[float]:
    """The gaps between `times`, again and again, stretched to `rate` a second."""
    stretch = rate_of(times) / rate
    now = 0.0
    for before, after in itertools.cycle(itertools.pairwise(times)):
        now += (after - before) * stretch
        yield now


def rate_of(times: Sequence[float]) -> float:
    """Arrivals a second of a recording."""
    return (len(times) - 1) / (times[-1] - times[0])


def read_times(path: Path) -> list[float]:
    """A recording: one time in seconds a line, never falling; empty lines don't count.

    Raises:
        UsageError: it can't be read, or isn't that; the first faulty line is named.
    """
    form = "give one time in seconds a line, in order"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(
            f"--arrivals {path}: can't be read ({why}); {form}, or use {POISSON!r} or {CONSTANT!r}"
        ) from error
    times: list[float] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        time = _number(line)
        if time is None or (times and time < times[-1]):
            said = "is no number" if time is None else f"comes after {times[-1]:g}"
            raise UsageError(f"--arrivals {path}, line {number}: {line.strip()[:40]!r} {said}; {form}")
        times.append(time)
    if len(times) < 2 or times[-1] <= times[0]:
        raise UsageError(f"--arrivals {path}: has {len(times)} times over no span; {form}, at least two")
    return times


def _number(line: str) -> float | None:
    try:
        value = float(line)
    except ValueError:
        return None
    return value if isfinite(value) else None


def due_times(shape: str, rate: float, seed: str) -> Iterator[float]:
    """Seconds from the start at which requests are due, without end; `shape` is a word or a file of times."""
    if shape == POISSON:
        return poisson(rate, seed)
    return constant(rate) if shape == CONSTANT else recorded(read_times(Path(shape)), rate)

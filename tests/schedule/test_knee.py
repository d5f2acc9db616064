from __future__ import annotations

from collections.abc import Callable

import pytest

from tokenmill.schedule.curve import Curve
from tokenmill.schedule.knee import PATIENCE, Knee


def climb(knee: Knee, throughput: Callable[[int], float], ceiling: int = 100, steps: int = 60) -> list[int]:
    """The levels tried, when each target is reached and measured well."""
    tried = []
    for _ in range(steps):
        level = min(knee.target or 1, ceiling)
        if not tried or tried[-1] != level:
            tried.append(level)
        knee.add(level, throughput(level), 30.0)
    return tried


def of(curve: Curve) -> Callable[[int], float]:
    return lambda level: level * curve.pace(level)


def test_it_doubles_while_the_throughput_does() -> None:
    """On a node whose requests don't slow each other the levels double."""
    assert climb(Knee(), of(Curve()), steps=6) == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    "curve",
    [
        Curve(coherence=0.06),
        Curve(serial=0.05, coherence=0.02),
        Curve(serial=0.02, coherence=0.0005),
        Curve(coherence=0.5),
    ],
)
def test_it_holds_the_best_level(curve: Curve) -> None:
    """It ends within 2 % of the greatest throughput, and was never far beyond the knee."""
    knee = Knee()

    tried = climb(knee, of(curve))

    best, most = curve.best(200)
    assert knee.target is not None
    assert of(curve)(knee.target) >= 0.98 * most
    assert max(tried) <= 2 * best


def test_a_cliff_is_found_between_two_levels() -> None:
    """Where throughput breaks down from one level to the next, the last good one is searched for."""
    knee = Knee()

    climb(knee, lambda level: float(level) if level <= 11 else 4.0)

    assert knee.target == 11


def test_a_level_is_not_called_bad_before_it_is_known_well() -> None:
    """A few slow chunks don't turn it back."""
    knee = Knee()
    knee.add(2, 2.0, 30.0)
    assert knee.target == 4

    knee.add(4, 1.5, 7.0)
    assert knee.target == 4
    knee.add(4, 1.5, 30.0)
    assert knee.target == 3


def test_a_stall_of_this_machine_is_not_the_nodes_knee() -> None:
    """A quick node whose chunks are read late for a moment is still asked for as many as it does well with."""
    knee = Knee()
    knee.add(2, 220.0, 30.0)
    assert knee.target == 4

    knee.add(4, 200.0, 40.0)  # a fifth of a second in which the reader hardly got to run
    for _ in range(40):
        if knee.target == 4:
            knee.add(4, 440.0, 20.0)

    assert knee.target is not None
    assert knee.target > 4


def test_nothing_is_held_back_before_anything_is_known() -> None:
    """A node that doesn't tell its pace has no target."""
    knee = Knee()
    for _ in range(1000):
        knee.answered(ceiling=50)

    assert knee.target is None


def test_it_looks_again() -> None:
    """After some answers it measures a lower and a higher level, and follows a knee that has moved."""
    knee = Knee()
    climb(knee, of(Curve(coherence=0.06)))
    assert knee.target == 4

    for _ in range(40 * PATIENCE):
        knee.answered(ceiling=100)
        level = knee.target or 1
        knee.add(level, of(Curve(coherence=0.005))(level), 30.0)

    best, most = Curve(coherence=0.005).best(100)
    assert of(Curve(coherence=0.005))(knee.target or 1) >= 0.95 * most, best

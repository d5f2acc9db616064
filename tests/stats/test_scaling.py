"""Speedup, efficiency, the serial fraction and the scalability law, on curves with known answers."""

from __future__ import annotations

from math import exp, sqrt
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.stats.measure import Measure
from tokenmill.stats.scaling import Usl, efficiency, fit_usl, karp_flatt, speedup

WIDTHS = [1.0, 2.0, 4.0, 6.0, 8.0, 12.0]


def law(serial: float, coherence: float, single: float = 40.0) -> Usl:
    return Usl(single=single, serial=serial, coherence=coherence, widest=12, scatter=0.0, chance=0.0)


def fitted(widths: list[float], rates: list[float]) -> Usl:
    found = fit_usl(widths, rates)
    assert isinstance(found, Usl)
    return found


def noisy(truth: Usl, seed: int, repeats: int = 5, noise: float = 0.02) -> Usl:
    random = Random(seed)
    widths = WIDTHS * repeats
    return fitted(widths, [truth.rate(width) * exp(random.gauss(0.0, noise)) for width in widths])


def test_speedup_and_efficiency_name_what_they_are_per() -> None:
    """A quarter of the time on eight slots instead of one is a speedup of 4 and an efficiency of a half."""
    assert speedup(100.0, 25.0) == Measure(4.0, "")
    assert efficiency(4.0, 8, unit="slot") == Measure(0.5, "per slot")
    assert efficiency(3.0, 6.0, 2.0, unit="node") == Measure(1.0, "per node")


def test_nothing_used_and_no_time() -> None:
    """Without time or resources there is no ratio."""
    assert speedup(1.0, 0.0).reason == "times must be above zero, these are 1 and 0 s"
    assert efficiency(1.0, 0, unit="node").reason == "resources must be above zero, these are 0 and 1 node"


@given(st.floats(0.0, 1.0), st.integers(2, 1000))
def test_karp_flatt_finds_the_serial_fraction_of_amdahls_law(serial: float, workers: int) -> None:
    """A speedup by Amdahl's law gives back the serial fraction that it was made of."""
    found = karp_flatt(1 / (serial + (1 - serial) / workers), workers)

    assert found.value == pytest.approx(serial, abs=1e-9)


@pytest.mark.parametrize("noise_seed", range(5))
def test_karp_flatt_under_noise(noise_seed: int) -> None:
    """At 2 % noise the fraction stays near the true one."""
    measured = 1 / (0.1 + 0.9 / 8) * exp(Random(noise_seed).gauss(0.0, 0.02))

    assert karp_flatt(measured, 8).value == pytest.approx(0.1, abs=0.02)


def test_karp_flatt_that_is_not_available() -> None:
    """One worker shows no serial fraction, nor does a speedup of nothing."""
    assert karp_flatt(1.0, 1).reason == "the serial fraction needs more than one worker, there is 1"
    assert karp_flatt(0.0, 4).reason == "a speedup is above zero, this is 0"


@given(st.floats(0.0, 0.9), st.floats(1e-3, 0.1), st.floats(1e-3, 1e6))
def test_the_law_is_found_again(serial: float, coherence: float, single: float) -> None:
    """Points of a law give its parameters, and the best N of its definition, in any unit."""
    truth = law(serial, coherence, single)

    found = fitted(WIDTHS, [truth.rate(width) for width in WIDTHS])

    assert found.single == pytest.approx(single, rel=1e-6)
    assert found.serial == pytest.approx(serial, abs=1e-6)
    assert found.coherence == pytest.approx(coherence, rel=1e-4)
    assert found.best.value == pytest.approx(max(1.0, sqrt((1 - serial) / coherence)), rel=1e-3)
    assert found.scatter < 1e-6


@pytest.mark.parametrize("seed", range(10))
def test_the_law_under_noise(seed: int) -> None:
    """At 2 % noise and five repeats the top is found near where it is, and the scatter is the noise."""
    found = noisy(law(0.05, 0.005), seed)

    assert found.best.value == pytest.approx(sqrt(0.95 / 0.005), rel=0.15)
    assert found.scatter == pytest.approx(0.02, rel=0.5)


@pytest.mark.parametrize("truth", [law(0.0, 0.0), law(0.3, 0.0), law(1.0, 0.0)], ids=["linear", "Amdahl", "flat"])
def test_noise_rarely_makes_a_top(truth: Usl) -> None:
    """A curve that has no top is given one in at most 12 of 100 noisy sweeps, and else says that it shows none."""
    found = [noisy(truth, seed).best for seed in range(100)]

    assert sum(best.value is not None for best in found) <= 12
    assert {best.reason.partition(":")[0] for best in found if best.value is None} <= {
        "the points show no top of throughput up to N = 12",
        "more workers bring nothing",
    }


def test_what_one_more_worker_brings() -> None:
    """The gain falls to zero at the top and is a loss beyond it."""
    truth = law(0.0, 0.01)

    assert truth.best.value == pytest.approx(10.0)
    assert truth.gain(1) == pytest.approx(truth.rate(2) / truth.rate(1) - 1)
    assert truth.gain(9) > 0 > truth.gain(10)
    assert not truth.is_extrapolated
    assert law(0.0, 0.004).is_extrapolated


def test_more_workers_that_bring_nothing() -> None:
    """One slot gives the same throughput at every width: the serial share is 1 and there is no best N."""
    found = fitted(WIDTHS, [25.0] * len(WIDTHS))

    assert found.serial == pytest.approx(1.0)
    assert found.best.reason == "more workers bring nothing: the serial share is 1"
    assert fitted(WIDTHS, [law(1.5, 0.0).rate(width) for width in WIDTHS]).best.value is None


def test_a_linear_curve_has_no_top() -> None:
    """Throughput that grows with the workers has no best N within what was measured."""
    found = fitted(WIDTHS, [10.0 * width for width in WIDTHS])

    assert found.best.reason == "the points show no top of throughput up to N = 12"
    assert found.gain(8) == pytest.approx(1 / 8)


def test_the_law_that_cannot_be_fitted() -> None:
    """Fewer than five different N, or rates of nothing, give n/a; sides of unequal length are a mistake."""
    four = fit_usl([1, 2, 4, 8, 8], [1.0, 2.0, 3.0, 4.0, 4.1])
    nothing = fit_usl(WIDTHS, [1.0, 2.0, 0.0, 3.0, 3.0, 3.0])

    assert four == Measure(None, "", "the law needs 5 different numbers of workers, not 4")
    assert nothing == Measure(None, "", "the law needs N >= 1 and rates above zero, there is 0 at N = 4")
    with pytest.raises(ValueError, match="6 and 1 values"):
        fit_usl(WIDTHS, [1.0])

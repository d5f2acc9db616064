"""The knee of a closed loop: the number in flight with the greatest power, which is throughput / mean latency.

Up to there one more in flight brings more throughput than it costs in latency, beyond it costs more than it brings; for
a node with hard slots that is their number (Kleinrock, "Power and deterministic rules of thumb for probabilistic
problems in computer communications", 1979). In a closed loop the mean latency is the number in flight / requests per
second (Little 1961), so the power is proportional to throughput² / number in flight, and needs no other figure.

Kneedle (Satopaa et al. 2011), which is widely used, was not taken: it scales the curve to the loads that were swept, so
a wider sweep can move its knee, and it looks at throughput alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from tokenmill.stats.claim import Claim
from tokenmill.stats.interval import geometric_mean, paired_ratio

METHOD = "greatest throughput / mean latency (power, Kleinrock 1979)"


class Knee(Struct, frozen=True, kw_only=True):
    """Where the power is greatest. `load` is None if no knee was seen, and `reason` says why.

    `throughput` is the geometric mean there, `best` that at `most`, where it is greatest. `votes`: in how many of the
    `repeats` alone the power is greatest there too. `alike`: other loads whose power the repeats can't tell from it.
    """

    load: int | None
    most: int
    best: float
    throughput: float = 0.0
    votes: int = 0
    repeats: int = 0
    alike: tuple[int, ...] = ()
    reason: str = ""


def find_knee(measured: Mapping[int, Mapping[int, float]]) -> Knee | None:
    """The knee of a sweep: for each load its throughput by repeat. None if fewer than two loads were measured.

    Power that is greatest at the widest load shows no knee, and neither does one that the repeats can't tell from that
    of the widest. With fewer than five repeats nothing is told apart, and the greatest is taken.
    """
    there = {load: dict(rates) for load, rates in sorted(measured.items()) if rates}
    if len(there) < 2:
        return None
    rates = {load: _mean(found) for load, found in there.items()}
    top = max(rates, key=lambda load: power(rates[load], load))
    most, widest = max(rates, key=rates.__getitem__), max(there)
    alike = tuple(load for load in there if load != top and _is_alike(top, load, there))
    if top == widest or widest in alike:
        why = "it still grows there" if top == widest else f"the repeats don't tell it there from that with {top}"
        reason = f"no knee up to {widest} in flight: of throughput / latency, {why}"
        return Knee(load=None, most=most, best=rates[most], alike=alike, reason=reason)
    shared = set.intersection(*(set(found) for found in there.values()))
    single = [max(there, key=lambda load: power(there[load][repeat], load)) for repeat in sorted(shared)]
    return Knee(
        load=top,
        most=most,
        best=rates[most],
        throughput=rates[top],
        votes=single.count(top),
        repeats=len(single),
        alike=alike,
    )


def power(throughput: float, load: int) -> float:
    """Throughput / mean latency of a closed loop, but for the tokens of an answer, which are those of all loads."""
    return throughput * throughput / load


def _mean(rates: Mapping[int, float]) -> float:
    mean = geometric_mean(list(rates.values()), "").value
    return 0.0 if mean is None else mean


def _is_alike(one: int, other: int, there: Mapping[int, Mapping[int, float]]) -> bool:
    """Whether enough repeats have both, and the interval of their ratio includes 1."""
    pairs = [repeat for repeat in there[one] if repeat in there[other]]
    ratio = paired_ratio(
        [power(there[one][repeat], one) for repeat in pairs], [power(there[other][repeat], other) for repeat in pairs]
    )
    return Claim(ratio=ratio).finding == "no difference"

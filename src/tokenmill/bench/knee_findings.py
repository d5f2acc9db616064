"""What a load sweep shows, in sentences: the knee, the highest rate held, and where arrivals outrun departures."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tokenmill.bench.power import METHOD, Knee, find_knee
from tokenmill.bench.saturation import PAIRS, Drift, pooled
from tokenmill.bench.step import Limits
from tokenmill.bench.table import Row
from tokenmill.driver.meaning import LoadKnee
from tokenmill.report.numbers import figure, seconds

#: A program that sends later than this part of the latency makes part of what it measures.
LATE = 0.1


def findings_of(closed: Sequence[Row], opened: Sequence[Row], varied: str, limits: Limits) -> list[str]:
    """`varied` is the factor that counts requests in flight."""
    return [
        *_of_closed(closed, varied),
        *_of_open(opened),
        *_of_limits(closed, opened, limits),
        *(line for row in (*closed, *opened) for line in _of_failures(row)),
    ]


def knee_of(closed: Sequence[Row], varied: str) -> Knee | None:
    return find_knee({int(row.cell.factors[varied]): row.rates for row in closed})


def kept_knee(knee: Knee, rows: Sequence[Row], varied: str) -> LoadKnee:
    """The knee as it is kept; the mean latency by Little's law."""
    assert knee.load is not None
    row = next(row for row in rows if row.cell.factors.get(varied) == knee.load)
    return LoadKnee(
        requests=knee.load,
        throughput=knee.throughput,
        latency=knee.load / row.extra["requests_per_second"],
        most=knee.most,
        best=knee.best,
        method=METHOD,
        date=time.strftime("%Y-%m-%d"),
    )


def drift_of(row: Row) -> Drift | None:
    """How the number in flight moved in a step of the open loop, over its repeats."""
    if not {"offered", "growth", "trend"} <= row.extra.keys() or row.seconds.value is None:
        return None
    arrivals = row.extra["offered"] * row.seconds.value
    return pooled(len(row.rates), arrivals, row.extra["growth"] * arrivals, row.extra["trend"] * PAIRS)


def _of_closed(rows: Sequence[Row], varied: str) -> list[str]:
    knee = knee_of(rows, varied)
    if knee is None:
        return []
    top = f"most is {figure(knee.best)} tokens/s with {knee.most}"
    if knee.load is None:
        return [f"closed loop: {knee.reason}; {top}"]
    row = next(row for row in rows if row.cell.factors[varied] == knee.load)
    p50 = "" if row.latency.value is None else f", latency p50 {seconds(row.latency.value)}"
    alike = f"; not told from {', '.join(map(str, knee.alike))}" if knee.alike else ""
    share = f"{100 * knee.throughput / knee.best:.0f} % of the most, which is {figure(knee.best)} with {knee.most}"
    return [
        f"closed loop: the knee is {knee.load} in flight, {METHOD}, in {knee.votes} of {knee.repeats} repeats{alike}: "
        f"{figure(knee.throughput)} tokens/s, {share}{p50}"
    ]


def _of_open(rows: Sequence[Row]) -> list[str]:
    found, held = [], []
    for row in rows:
        drift = drift_of(row)
        if drift is None:
            continue
        due = f"{row.cell.title}, {figure(row.extra['offered'])} requests/s"
        if drift.is_saturated:
            found.append(
                f"open loop: over-saturated at {due}: {100 * drift.rise / drift.arrivals:.0f} % of the arrivals were "
                f"still in flight at the end (Mann-Kendall test of the number in flight: p {_chance(drift.chance)})"
            )
        else:
            held.append((row.extra["offered"], due))
        late, p50 = row.extra["sent_late"], row.latency.value
        if p50 and late > LATE * p50:
            found.append(f"open loop: at {due}, this program sent {seconds(late)} late: its latencies are too long")
    if held:
        found.insert(0, f"open loop: no over-saturation was seen up to {max(held)[1]}")
    return found


def _chance(chance: float) -> str:
    return f"{chance:.3f}" if chance >= 0.001 else "< 0.001"


def _of_limits(closed: Sequence[Row], opened: Sequence[Row], limits: Limits) -> list[str]:
    if not limits.is_stated:
        return []
    stated = [f"{name} {1000 * limit:g} ms" for name, limit in (("TTFT", limits.ttft), ("TPOT", limits.tpot)) if limit]
    found = []
    for name, rows in (("closed loop", closed), ("open loop", opened)):
        good = [row for row in rows if "goodput" in row.extra]
        if good:
            best = max(good, key=lambda row: row.extra["goodput"])
            found.append(
                f"{name}: most goodput within {' and '.join(stated)} is {figure(best.extra['goodput'])} requests/s, "
                f"at {best.cell.title}"
            )
    return found


def _of_failures(row: Row) -> list[str]:
    if not row.failed:
        return []
    kinds = ", ".join(f"{count} {kind}" for kind, count in row.failed.items())
    return [f"{row.cell.group}, {row.cell.title}: requests failed ({kinds}); only repeats without failures count"]

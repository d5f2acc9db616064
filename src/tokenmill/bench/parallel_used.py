"""What a run took of the machine while its texts were answered: memory by process, power, and its GPUs."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from tokenmill.footprint import Curve, Footprint

#: What the run's own process is called in a footprint.
DRIVER = "driver"
NONE_SEEN = "no sample was taken in that time"
#: The figure that is never there: why what the power is of isn't the machine.
WHOLE_POWER = "machine_power"
REST = "the rest of the machine, which nothing counts"


class Used(Struct, frozen=True, kw_only=True):
    """Peaks in bytes by process, figures by their names, and why others aren't there, by theirs."""

    peaks: dict[str, int] = {}
    figures: dict[str, float] = {}
    missing: dict[str, str] = {}


def used_of(seen: Footprint, began: float, ended: float) -> Used:
    """From a footprint, between two moments of its clock; peaks of memory are of the whole run.

    The mark of a process whose end wasn't seen is the kernel's own as it was read last.
    """
    peaks: dict[str, int] = {}
    workers: list[int] = []
    for each in seen.processes:
        peak = each.peak_rss or each.seen_peak
        if peak is not None:
            peaks[each.name if each.name == DRIVER else f"{each.name}, {len(workers) + 1}"] = peak
            workers += [peak] if each.name != DRIVER else []
    figures: dict[str, float] = {}
    missing: dict[str, str] = {}
    if workers:
        figures["worker_memory"] = float(max(workers))
    else:
        missing["worker_memory"] = "no worker was seen"
    _power(seen, began, ended, figures, missing)
    _gpus(seen, began, ended, figures, missing)
    return Used(peaks=peaks, figures=figures, missing=missing)


def _power(seen: Footprint, began: float, ended: float, figures: dict[str, float], missing: dict[str, str]) -> None:
    """The mean power of all parts that can be measured, and joules; both or none, and which parts these are."""
    names = ("power", "joules", "energy")
    left = [f"GPU: {seen.no_gpu}"] if seen.no_gpu else []
    there: list[tuple[str, float]] = []
    for each in seen.energy:
        watts = mean_of(each.power, seen, began, ended)
        if watts is None:
            left.append(f"{each.part}: {each.reason or each.power.reason or NONE_SEEN}")
        else:
            there.append((each.part, watts))
    if not there:
        missing |= dict.fromkeys(names, "; ".join(left) or "no part of this machine says what it takes")
        return
    figures["power"] = sum(watts for _, watts in there)
    figures["joules"] = figures["power"] * (ended - began)
    counted = ", ".join(part for part, _ in there)
    missing[WHOLE_POWER] = (
        f"{counted}, idle or not and whatever programs used them; left out: {'; '.join([*left, REST])}"
    )


def _gpus(seen: Footprint, began: float, ended: float, figures: dict[str, float], missing: dict[str, str]) -> None:
    """Of all GPUs together, and where there are several of each: `gpu_busy0`, `gpu_memory0` and so on."""
    if not seen.gpus:
        missing |= dict.fromkeys(("gpu_busy", "gpu_memory"), seen.no_gpu or "there is no GPU")
        return
    busy = {number: mean_of(each.busy, seen, began, ended) for number, each in enumerate(seen.gpus)}
    memory = {number: most_of(each.memory, seen, began, ended) for number, each in enumerate(seen.gpus)}
    for name, values, whole in (("gpu_busy", busy, _mean), ("gpu_memory", memory, max)):
        found = {number: value for number, value in values.items() if value is not None}
        if not found:
            curve = seen.gpus[0].busy if name == "gpu_busy" else seen.gpus[0].memory
            missing[name] = curve.reason or NONE_SEEN
            continue
        figures[name] = whole(list(found.values()))
        if len(seen.gpus) > 1:
            figures |= {f"{name}{number}": value for number, value in found.items()}


def mean_of(curve: Curve, seen: Footprint, began: float, ended: float) -> float | None:
    """Over the part of the time for which there are values, each as long as it lasted in there."""
    total = seconds = 0.0
    for start, end, value in _points(curve.means, seen, began, ended):
        total += value * (end - start)
        seconds += end - start
    return total / seconds if seconds > 0 else None


def most_of(curve: Curve, seen: Footprint, began: float, ended: float) -> float | None:
    return max((value for _, _, value in _points(curve.maxima, seen, began, ended)), default=None)


def _points(
    values: Sequence[float | None], seen: Footprint, began: float, ended: float
) -> list[tuple[float, float, float]]:
    """Start, end and value of each interval as far as it lies between two moments."""
    starts = (seen.start, *seen.times)
    return [
        (max(start, began), min(end, ended), value)
        for start, end, value in zip(starts, seen.times, values, strict=False)
        if value is not None and end > began and start < ended
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

"""What a run took of the machine it ran on, in figures: from the footprints of its sessions.

A figure that would mislead is none: energy of a session that was cut off, or joules for each token where another
machine wrote some of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from tokenmill.footprint import Curve, EnergyUse, Footprint, GpuUse, ProcessUse
from tokenmill.stats.measure import Measure

NOT_IDLE = "idle power was not measured before the run"
HERE_ONLY = "measured on this host only"
TOO_SHORT = "the session was over before there were two readings far enough apart"


class ProcessFigures(Struct, frozen=True, kw_only=True):
    """One process of the run."""

    name: str
    pid: int
    peak_rss: Measure
    cpu: Measure
    cpu_seconds: Measure
    cpu_curve: Curve
    rss_curve: Curve


class GpuFigures(Struct, frozen=True, kw_only=True):
    """One GPU, whatever programs used it."""

    name: str
    gpu_memory_total: Measure
    gpu_busy: Measure
    gpu_memory: Measure
    busy_curve: Curve
    memory_curve: Curve


class EnergyFigures(Struct, frozen=True, kw_only=True):
    """The energy of one part of the machine, whatever programs used it."""

    part: str
    source: str
    joules: Measure
    count_size: Measure
    power: Measure
    least_power: Measure
    power_curve: Curve


class SessionFigures(Struct, frozen=True, kw_only=True):
    """One session; the points of all its curves end at `times`."""

    session: int
    is_whole: bool
    interval: float
    samples: int
    sampling_cost: Measure
    start: float
    times: tuple[float, ...]
    machine_cpu: Measure
    machine_cpu_largest: Measure
    load: Measure
    machine_curve: Curve
    load_curve: Curve
    processes: tuple[ProcessFigures, ...]
    omitted: int
    gpus: tuple[GpuFigures, ...]
    no_gpu: str
    energy_parts: tuple[EnergyFigures, ...]


class Resources(Struct, frozen=True, kw_only=True):
    """All sessions. `elsewhere`: nodes of which nothing is known, for the reason in `not_here`."""

    cores: int
    sessions: tuple[SessionFigures, ...]
    energy: Measure
    energy_of: tuple[str, ...]
    energy_per_token: Measure
    energy_per_answer: Measure
    idle_share: Measure
    idle_share_at_most: Measure
    elsewhere: tuple[str, ...]
    not_here: str


def resources(footprints: Mapping[int, Footprint], *, sessions: int, tokens: int, answers: int) -> Resources | None:
    """The figures of a run with so many sessions, output tokens of answers and answers; None if nothing was sampled."""
    if not footprints:
        return None
    figures = tuple(_session(number, footprint) for number, footprint in sorted(footprints.items()))
    energy, parts = _energy(figures, sessions)
    elsewhere = tuple(dict.fromkeys(name for each in footprints.values() for name in each.elsewhere))
    return Resources(
        cores=max(each.cores for each in footprints.values()),
        sessions=figures,
        energy=energy,
        energy_of=parts,
        energy_per_token=_per(energy, tokens, "J/token", elsewhere),
        energy_per_answer=_per(energy, answers, "J/answer", elsewhere),
        idle_share=Measure(None, "", NOT_IDLE),
        idle_share_at_most=_idle_at_most(figures, energy, footprints),
        elsewhere=elsewhere,
        not_here=HERE_ONLY if elsewhere else "",
    )


def mean(curve: Curve, start: float, times: Sequence[float]) -> float | None:
    """Over the time for which there are values; a point counts as long as it lasted."""
    total = seconds = 0.0
    since = start
    for end, value in zip(times, curve.means, strict=False):
        if value is not None:
            total += value * (end - since)
            seconds += end - since
        since = end
    return total / seconds if seconds > 0 else None


def _session(number: int, seen: Footprint) -> SessionFigures:
    cost = 1000 * seen.spent / seen.lasted if seen.lasted > 0 else None
    return SessionFigures(
        session=number,
        is_whole=seen.is_whole,
        interval=seen.interval,
        samples=seen.samples,
        sampling_cost=_or(cost, "ms/s", TOO_SHORT),
        start=seen.start,
        times=seen.times,
        machine_cpu=_mean(seen.machine, "% of one core", seen),
        machine_cpu_largest=_largest(seen.machine, "% of one core"),
        load=_mean(seen.load, "", seen),
        machine_curve=seen.machine,
        load_curve=seen.load,
        processes=tuple(_process(each, seen) for each in seen.processes),
        omitted=seen.omitted,
        gpus=tuple(_gpu(each, seen) for each in seen.gpus),
        no_gpu=seen.no_gpu,
        energy_parts=tuple(_part(each, seen) for each in seen.energy),
    )


def _process(use: ProcessUse, seen: Footprint) -> ProcessFigures:
    reason = use.peak_reason
    if use.peak_rss is None and use.seen_peak is not None:
        reason += f"; at least {use.seen_peak / 2**20:.1f} MiB when it was looked at last"
    return ProcessFigures(
        name=use.name,
        pid=use.pid,
        peak_rss=_or(use.peak_rss, "B", reason),
        cpu=_mean(use.cpu, "% of one core", seen),
        cpu_seconds=_or(use.cpu_seconds, "s", use.cpu.reason or TOO_SHORT),
        cpu_curve=use.cpu,
        rss_curve=use.rss,
    )


def _gpu(use: GpuUse, seen: Footprint) -> GpuFigures:
    return GpuFigures(
        name=use.name,
        gpu_memory_total=_or(use.total, "B", use.memory.reason),
        gpu_busy=_mean(use.busy, "%", seen),
        gpu_memory=_largest(use.memory, "B"),
        busy_curve=use.busy,
        memory_curve=use.memory,
    )


def _part(use: EnergyUse, seen: Footprint) -> EnergyFigures:
    lowest = min((value for value in use.power.means if value is not None), default=None)
    step = "it isn't counted, but computed from its power" if use.source else use.reason
    return EnergyFigures(
        part=use.part,
        source=use.source,
        joules=_or(use.joules, "J", use.reason),
        count_size=_or(use.step if use.joules is not None else None, "J", use.reason or step),
        power=_mean(use.power, "W", seen),
        least_power=_or(lowest, "W", use.power.reason or TOO_SHORT),
        power_curve=use.power,
    )


def _energy(sessions: Sequence[SessionFigures], count: int) -> tuple[Measure, tuple[str, ...]]:
    """Of all parts that were measured, in all sessions, and which these are."""
    if len(sessions) < count:
        return Measure(None, "J", f"only {len(sessions)} of {count} sessions were sampled"), ()
    measured = [[part for part in each.energy_parts if part.joules.value is not None] for each in sessions]
    names = {tuple(part.part for part in parts) for parts in measured}
    if len(names) > 1:
        return Measure(None, "J", "not the same parts of the machine were measured in each session"), ()
    (parts,) = names
    if not parts:
        why = [f"{part.part}: {part.joules.reason}" for part in sessions[0].energy_parts]
        no_gpu = [f"GPU: {sessions[0].no_gpu}"] if sessions[0].no_gpu else []
        return Measure(None, "J", "; ".join(no_gpu + why)), ()
    total = sum(part.joules.value or 0.0 for each in measured for part in each)
    if not all(each.is_whole for each in sessions):
        text = f"a session ended by force, and what it took after its last sample isn't known; at least {total:.0f} J"
        return Measure(None, "J", text), parts
    return Measure(total, "J"), parts


def _per(energy: Measure, count: int, unit: str, elsewhere: Sequence[str]) -> Measure:
    if elsewhere:
        return Measure(None, unit, f"{HERE_ONLY}, and {', '.join(elsewhere)} may have answered elsewhere")
    if energy.value is None:
        return Measure(None, unit, energy.reason)
    return Measure(energy.value / count, unit) if count else Measure(None, unit, "there are no answers")


def _idle_at_most(sessions: Sequence[SessionFigures], energy: Measure, footprints: Mapping[int, Footprint]) -> Measure:
    """Idle power can't be more than the least power of any interval, so this much may have gone to being there."""
    if energy.value is None:
        return Measure(None, "%", energy.reason)
    idle = 0.0
    for each in sessions:
        for part in each.energy_parts:
            if part.joules.value is None:
                continue
            if part.least_power.value is None:
                return Measure(None, "%", part.least_power.reason)
            idle += part.least_power.value * footprints[each.session].lasted
    return Measure(min(100.0, 100 * idle / energy.value), "%") if energy.value > 0 else Measure(None, "%", TOO_SHORT)


def _mean(curve: Curve, unit: str, seen: Footprint) -> Measure:
    return _or(mean(curve, seen.start, seen.times), unit, curve.reason or TOO_SHORT)


def _largest(curve: Curve, unit: str) -> Measure:
    found = max((value for value in curve.maxima if value is not None), default=None)
    return _or(found, unit, curve.reason or TOO_SHORT)


def _or(value: float | None, unit: str, reason: str) -> Measure:
    return Measure(value, unit) if value is not None else Measure(None, unit, reason)

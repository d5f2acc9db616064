"""The resources of a run as labelled facts for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from tokenmill.report.numbers import NONE, figure, measure, seconds
from tokenmill.report.resources import Resources, SessionFigures
from tokenmill.stats.measure import Measure

#: Processes that are shown, those that held most first.
SHOWN = 8

#: The definitions of what is shown, by label.
DEFINED = {
    "machine": "machine_cpu",
    "load": "load",
    "memory": "peak_rss",
    "processor": "cpu_seconds",
    "GPU": "gpu_busy",
    "energy": "joules",
    "idle share": "idle_share",
    "sampling": "sampling_cost",
}


def spoken(found: Resources) -> Iterator[tuple[str, str]]:
    """(label, what it is) for every line."""
    for each in found.sessions:
        where = f" (session {each.session + 1})" if len(found.sessions) > 1 else ""
        yield "machine", _machine(each, found.cores) + where
        yield from _processes(each)
        yield from _gpus(each)
        for part in each.energy_parts:
            if part.joules.value is not None:
                yield (
                    "energy",
                    f"{part.part}: {measure(part.joules)} by {part.source}, {measure(part.power)} on average",
                )
    yield "energy", _said(found.energy) + (f" for {', '.join(found.energy_of)}" if found.energy_of else "")
    if found.energy.value is not None:
        yield "  a token", _said(found.energy_per_token)
        yield "  an answer", _said(found.energy_per_answer)
        yield "  idle share", f"{NONE}: {found.idle_share.reason}; at most {_said(found.idle_share_at_most)}"
    if found.elsewhere:
        yield "elsewhere", f"{', '.join(found.elsewhere)}: {NONE}, {found.not_here}"
    yield "sampling", ", ".join(dict.fromkeys(_sampling(each) for each in found.sessions))


def size(value: float) -> str:
    """Bytes in MiB, as the kernel counts in KiB."""
    return f"{value / 2**20:,.1f} MiB"


def _machine(each: SessionFigures, cores: int) -> str:
    if each.machine_cpu.value is None:
        return f"{NONE}: {each.machine_cpu.reason}; load {_said(each.load)}"
    most = f", {figure(each.machine_cpu_largest.value)} % at most" if each.machine_cpu_largest.value else ""
    return f"{figure(each.machine_cpu.value)} % of one core, {cores} cores{most}; load {_said(each.load)}"


def _processes(each: SessionFigures) -> Iterator[tuple[str, str]]:
    ranked = sorted(each.processes, key=lambda process: -(process.peak_rss.value or 0.0))
    for process in ranked[:SHOWN]:
        peak = process.peak_rss
        held = f"{size(peak.value)} at most" if peak.value is not None else f"{NONE} ({peak.reason})"
        yield "memory", f"{process.name}: {held}"
    for process in ranked[:SHOWN]:
        took = process.cpu_seconds
        spent = seconds(took.value) if took.value is not None else f"{NONE} ({took.reason})"
        share = f", {figure(process.cpu.value)} % of one core" if process.cpu.value is not None else ""
        yield "processor", f"{process.name}: {spent}{share}"
    left = len(ranked) - len(ranked[:SHOWN]) + each.omitted
    if left:
        yield "", f"and {left} more processes"


def _gpus(each: SessionFigures) -> Iterator[tuple[str, str]]:
    if each.no_gpu:
        yield "GPU", f"{NONE}: {each.no_gpu}"
    for gpu in each.gpus:
        memory, total = gpu.gpu_memory, gpu.gpu_memory_total
        held = f"{size(memory.value)} of memory at most" if memory.value is not None else f"memory {_said(memory)}"
        of = f", it has {size(total.value)}" if total.value is not None else ""
        yield "GPU", f"{gpu.name}: busy {_said(gpu.gpu_busy)}, {held}{of}"


def _sampling(each: SessionFigures) -> str:
    return f"every {each.interval:g} s, {each.samples} samples, for {_said(each.sampling_cost)} of processor time"


def _said(shown: Measure) -> str:
    return measure(shown) if shown.value is not None else f"{NONE}: {shown.reason}"

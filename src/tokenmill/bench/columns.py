"""The figures of a table by name: what is shown, targeted and compared under it, and what it means."""

from __future__ import annotations

from collections.abc import Iterable

from tokenmill.bench.table import Row
from tokenmill.stats.interval import Interval
from tokenmill.stats.measure import Measure

#: Name, what it means; the order is that of the table.
DEFINITIONS = {
    "seconds": "first request to last answer, loading left out; mean over repeats (geometric) with its 95 % interval",
    "speedup": "seconds of the group's baseline / seconds, mean log ratio of pairs with its t interval",
    "efficiency": "speedup / (workers / workers of the baseline)",
    "serial_fraction": "Karp and Flatt: (1/speedup - 1/p) / (1 - 1/p) with p workers; n/a for one worker",
    "tokens_per_second": "output tokens / seconds",
    "latency_p50": "median of finished - dispatched over the requests of all repeats; intervals resample whole runs",
    "latency_p95": "95th percentile of the same",
    "latency_p99": "99th percentile of the same; n/a with fewer than 300 requests",
    "ttft": "median of first token - dispatched",
    "bound_ratio": "lower bound / makespan, the median of the repeats; see the certificate of a run",
    "success": "answered / asked, all repeats",
    "loading": "seconds in which the engine was loading and nothing ran, the median",
    "overlap": "sum of generation intervals / length of their union, the median",
    "width": "mean batch width of the engine's forward passes, the median",
    "cpu": "processor seconds of the whole process tree that was waited for, the median",
    "memory": "largest sum of the processes' peaks, from the kernel's high-water marks",
    "more_memory": "memory beyond the baseline's / workers beyond the baseline's",
    "joules_per_token": "energy of the machine's measured parts / output tokens",
    "joules_per_answer": "the same / answered requests",
}


def figures_of(row: Row) -> dict[str, Measure | Interval]:
    """All figures of a cell, with the names of `DEFINITIONS` and those that only its suite measures."""
    none = Measure(None, "", "this is the baseline")
    return {
        "seconds": row.seconds,
        "speedup": row.speedup or none,
        "efficiency": row.efficiency,
        "serial_fraction": row.serial_fraction,
        "tokens_per_second": row.rate,
        "latency_p50": row.latency,
        "latency_p95": row.latency95,
        "latency_p99": row.latency99,
        "ttft": row.ttft,
        "bound_ratio": row.bound,
        "success": row.success,
        "loading": row.loading,
        "overlap": row.overlap,
        "width": row.width,
        "cpu": row.cpu,
        "memory": row.memory,
        "more_memory": row.more_memory,
        "joules_per_token": row.joules_per_token,
        "joules_per_answer": row.joules_per_answer,
        **{name: Measure(value, "") for name, value in row.extra.items()},
    }


def points_of(rows: Iterable[Row]) -> dict[str, Measure | Interval]:
    """Figures as targets name them: `speedup@pull/8`, and `speedup@8` for the best of that many workers."""
    found: dict[str, Measure | Interval] = {}
    for row in rows:
        values = "/".join(str(value).replace(" ", "-") for _, value in row.cell.named)
        whole = "/".join(filter(None, (row.cell.group.replace(" ", "-"), values)))
        for name, figure in figures_of(row).items():
            for at in (whole, values, f"{row.cell.workers:g}"):
                if _is_better(name, figure, found.get(f"{name}@{at}")):
                    found[f"{name}@{at}"] = figure
            if _is_better(name, figure, found.get(name)):
                found[name] = figure
    return found


#: Figures of which more is better; of the others less is.
MORE = ("speedup", "efficiency", "tokens_per_second", "bound_ratio", "success", "overlap", "width")


def _is_better(name: str, new: Measure | Interval, old: Measure | Interval | None) -> bool:
    if old is None or old.value is None:
        return True
    if new.value is None:
        return False
    return new.value > old.value if name in MORE else new.value < old.value

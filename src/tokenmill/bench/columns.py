"""The figures of a table by name: what is shown, targeted and compared under it, and what it means."""

from __future__ import annotations

from collections.abc import Iterable

from tokenmill.bench.suite import NamesColumns, suite_of
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
    "success": "answered / asked, all repeats; with a recipe, input rows that met every target / input rows",
    "per_answer": "seconds / answered requests or input rows of a recipe, the median; how long one took is its latency",
    "rounds": "rounds of a recipe that an input row took on average, the median of the repeats",
    "loading": "seconds in which the engine was loading and nothing ran, the median",
    "overlap": "sum of generation intervals / length of their union, the median",
    "width": "mean batch width of the engine's forward passes, the median",
    "wasted": "share of the computed places that were padding or came after an answer's end, the median",
    "cpu": "processor seconds of the whole process tree that was waited for, the median",
    "memory": "largest sum of the processes' peaks, from the kernel's high-water marks",
    "more_memory": "memory beyond the baseline's / workers beyond the baseline's",
    "joules_per_token": "energy of the machine's measured parts / output tokens",
    "joules_per_answer": "the same / answered requests",
    "requests_per_second": "answers that ended inside the window / its seconds, the median of the repeats",
    "offered": "requests that were due inside the window / its seconds, the median",
    "goodput": "answered requests that were due inside the window and kept the limits stated / its seconds, the median",
    "ttft_p95": "95th percentile of first token - due, the median of the repeats",
    "tpot_p50": "median of (finished - first token) / (output tokens - 1), the median of the repeats",
    "tpot_p95": "95th percentile of the same",
    "queue_wait": "median of TTFT beyond the TTFT of the idle node, an estimate: a server doesn't say when it begins",
    "sent_late": "95th percentile of sent - due: how far this program was behind, the median of the repeats",
    "growth": "requests that came to be in flight over the window (Sen's slope) / those due in it, the median",
    "trend": "Kendall's tau of the number in flight over ten stretches of the window, 1 for a steady rise, the median",
    "read_rate": "GB of weights read / seconds, the median of the repeats",
    "weights_rate": "weights / seconds, the median",
    "work_cpu": "processor seconds of the work alone, imports and compiling left out, the median",
    "memory_over_idle": "memory over a process that did nothing, with the same imports and kernels; the median",
    "texts_per_second": "answers / seconds, the median of the repeats",
    "words_per_second": "words of the answers, as white space divides them / seconds, the median",
    "at_work": "workers that generate at the same time, while any does; ranks of one model are one; the median",
    "worker_memory": "largest peak of a worker's process, from the kernel's high-water marks; the median",
    "power": "mean power of the machine's measured parts over the seconds, the median",
    "joules": "that power x seconds, the median",
    "gpu_busy": "time in which a GPU worked, the mean of all GPUs and the median of the repeats",
    "gpu_memory": "largest memory in use on a GPU, whatever programs use it, the median",
    "relative_rmse": "root mean squared error / root mean square of the weights, on some millions of them",
    "sqnr": "the same as a ratio of signal to noise, in dB",
}
#: Units of figures that only one suite measures; the others have none.
UNITS = dict.fromkeys(("ttft_p95", "tpot_p50", "tpot_p95", "queue_wait", "sent_late", "work_cpu"), "s") | {
    "memory_over_idle": "B",
    "worker_memory": "B",
    "power": "W",
    "joules": "J",
    "gpu_busy": "%",
    "gpu_memory": "B",
}

NOT_HERE = "this suite doesn't measure it"

#: Heading, name of the figure. Columns without any value are left out, and the last ones where there is no room.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("time", "seconds"),
    ("speedup", "speedup"),
    ("efficiency", "efficiency"),
    ("Karp-Flatt", "serial_fraction"),
    ("tok/s", "tokens_per_second"),
    ("success", "success"),
    ("latency p50", "latency_p50"),
    ("of bound", "bound_ratio"),
    ("overlap", "overlap"),
    ("width", "width"),
    ("init", "loading"),
    ("memory", "memory"),
    ("per worker", "more_memory"),
    ("J/token", "joules_per_token"),
)


def columns_of(suite: str) -> tuple[tuple[str, str], ...]:
    """Heading and figure of each column of this suite's table."""
    found = suite_of(suite)
    return found.columns if isinstance(found, NamesColumns) else COLUMNS


def figures_of(row: Row) -> dict[str, Measure | Interval]:
    """All figures of a cell, with the names of `DEFINITIONS` and those that only its suite measures."""
    none = Measure(None, "", "this is the baseline")
    return {
        **{name: Measure(None, unit_of(name), row.missing.get(name) or NOT_HERE) for name in DEFINITIONS},
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
        "per_answer": row.per_answer,
        "loading": row.loading,
        "overlap": row.overlap,
        "width": row.width,
        "cpu": row.cpu,
        "memory": row.memory,
        "more_memory": row.more_memory,
        "joules_per_token": row.joules_per_token,
        "joules_per_answer": row.joules_per_answer,
        **{name: Measure(value, unit_of(name)) for name, value in row.extra.items()},
    }


def unit_of(name: str) -> str:
    """The unit of a figure; one of a single device is called as that of all, with the device's number at its end."""
    return UNITS.get(name) or UNITS.get(name.rstrip("0123456789"), "")


def meaning_of(name: str) -> str:
    """What a figure means; one of a single device what that of all does, of this one."""
    if name in DEFINITIONS:
        return DEFINITIONS[name]
    whole = name.rstrip("0123456789")
    return f"{DEFINITIONS[whole]}: of device {name.removeprefix(whole)} alone"


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
MORE = (
    *("speedup", "efficiency", "tokens_per_second", "bound_ratio", "success", "overlap", "width"),
    *("texts_per_second", "words_per_second", "at_work", "gpu_busy"),
    *("requests_per_second", "offered", "goodput", "read_rate", "weights_rate", "sqnr"),
)


def _is_better(name: str, new: Measure | Interval, old: Measure | Interval | None) -> bool:
    if old is None or old.value is None:
        return True
    if new.value is None:
        return False
    return new.value > old.value if name in MORE else new.value < old.value

"""What a sweep's readings come to: one row a cell, with intervals, compared with the baseline of its group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from msgspec import Struct

from tokenmill.bench.cell import Cell, Reading
from tokenmill.stats.claim import Claim
from tokenmill.stats.interval import Interval, geometric_mean, paired_ratio
from tokenmill.stats.measure import Measure
from tokenmill.stats.percentile import percentile_of_runs
from tokenmill.stats.scaling import Usl, efficiency, fit_usl, karp_flatt

#: How far token counts per request may differ between sides whose answers differ, as a share.
TOKENS_ALIKE = 0.01


class Row(Struct, frozen=True, kw_only=True):
    """One cell: means with intervals over its whole readings; failures are counted apart.

    `success`: answered / requests over all readings, with a recipe the rows that succeeded / its input rows, which are
    what `per_answer` counts then as well. `seconds`, `loading`: s. `rate`: output tokens/s, and `rates`
    those of each whole reading by its repeat, so that any two cells can be compared in pairs. `speedup`: seconds of the
    baseline over these, paired by repeat; None for the baseline. `equal`: whether the answers were those of the
    baseline, in words if not. `bound`: the bound's share of the time, the median. `memory`: the largest sum of peaks in
    bytes; `more_memory`: bytes for each worker beyond the baseline's. `per_answer`: seconds / answered requests.
    `digests`: those of the whole readings' answers; more than one if a repeat answered differently. `missing`: why
    figures of `extra` aren't there, by name.
    """

    cell: Cell
    readings: int
    success: Measure
    seconds: Interval
    per_answer: Measure
    loading: Measure
    rate: Interval
    rates: dict[int, float]
    latency: Interval
    latency95: Interval
    latency99: Interval
    ttft: Interval
    speedup: Interval | None
    claim: Claim | None
    efficiency: Measure
    serial_fraction: Measure
    bound: Measure
    overlap: Measure
    width: Measure
    audit: str
    reason: str
    memory: Measure
    more_memory: Measure
    cpu: Measure
    joules_per_token: Measure
    joules_per_answer: Measure
    extra: dict[str, float]
    missing: dict[str, str]
    equal: str
    digests: tuple[str, ...]
    faults: tuple[str, ...]
    failed: dict[str, int]
    advice: tuple[str, ...]


class Law(Struct, frozen=True, kw_only=True):
    """The universal scalability law over the cells of a group that differ in `workers` alone."""

    group: str
    of: str
    law: Usl | None
    reason: str
    best: Measure
    one_more: Measure
    widest: float


def rows_of(cells: Sequence[Cell], readings: Iterable[Reading], unit: str) -> list[Row]:
    """A row for each cell that was read at least once, in the order of `cells`."""
    return [_row(*side, unit) for side in _beside_baselines(cells, readings)]


def speedups_of(cells: Sequence[Cell], readings: Iterable[Reading]) -> list[Interval]:
    """The speedups of those rows alone: resampling percentiles takes seconds, and this is asked after each reading."""
    found = (_against_baseline(*side)[1] for side in _beside_baselines(cells, readings))
    return [speedup for speedup in found if speedup is not None]


_Side = tuple[Cell, dict[int, Reading], Cell | None, dict[int, Reading]]


def _beside_baselines(cells: Sequence[Cell], readings: Iterable[Reading]) -> Iterator[_Side]:
    """Each cell that was read, what was read of it by repeat, and the same of its group's baseline."""
    found: dict[str, dict[int, Reading]] = {}
    for reading in readings:
        found.setdefault(reading.cell, {})[reading.repeat] = reading
    baselines = {cell.group: cell for cell in cells if cell.is_baseline}
    for cell in cells:
        if cell.key in found:
            baseline = baselines.get(cell.group)
            yield cell, found[cell.key], baseline, found.get(baseline.key, {}) if baseline else {}


def _row(cell: Cell, read: dict[int, Reading], base: Cell | None, its: dict[int, Reading], unit: str) -> Row:
    whole = {repeat: each for repeat, each in read.items() if each.is_whole}
    there = list(whole.values())
    equal, ratio = _against_baseline(cell, read, base, its)
    value = 1.0 if cell.is_baseline and there else (ratio.value if ratio is not None else None)
    missing = "nothing was measured" if value is None else ""
    rates = {repeat: each.output_tokens / each.seconds for repeat, each in whole.items() if each.seconds > 0}
    used, start = cell.workers, base.workers if base else 1.0
    latencies = [each.latencies for each in there]
    return Row(
        cell=cell,
        readings=len(read),
        success=_success(read.values()),
        seconds=geometric_mean([each.seconds for each in there], "s"),
        per_answer=_median([each.seconds / (each.units[0] if each.stories else each.answered) for each in there], "s"),
        loading=_median([each.loading for each in there], "s"),
        rate=geometric_mean(list(rates.values()), "tokens/s"),
        rates=rates,
        latency=percentile_of_runs(latencies, 0.5, "s"),
        latency95=percentile_of_runs(latencies, 0.95, "s"),
        latency99=percentile_of_runs(latencies, 0.99, "s"),
        ttft=percentile_of_runs([each.ttft for each in there], 0.5, "s"),
        speedup=ratio,
        claim=None if ratio is None else Claim(ratio=ratio),
        efficiency=Measure(None, f"per {unit}", missing)
        if value is None
        else efficiency(value, used, start, unit=unit),
        serial_fraction=Measure(None, "", missing) if value is None else karp_flatt(value, used / start),
        bound=_bound(there),
        overlap=_median([each.overlap for each in there if each.overlap is not None], ""),
        width=_median([each.width for each in there if each.width is not None], ""),
        audit=there[-1].audit if there else "",
        reason=there[-1].reason if there else "",
        memory=_memory(there),
        more_memory=_more_memory(there, list(its.values()), used - start),
        cpu=_median([each.cpu for each in there], "s"),
        joules_per_token=_joules(there, [each.output_tokens for each in there], "J/token"),
        joules_per_answer=_joules(there, [each.answered for each in there], "J/answer"),
        extra={name: median([each.extra[name] for each in there]) for name in _extras(there)},
        missing={name: why for each in there for name, why in each.missing.items()},
        equal=equal,
        digests=tuple(dict.fromkeys(each.digest for each in there)),
        faults=tuple(dict.fromkeys(each.fault for each in read.values() if each.fault)),
        failed=_failed(read.values()),
        advice=there[-1].advice if there else (),
    )


def _against_baseline(
    cell: Cell, read: dict[int, Reading], base: Cell | None, its: dict[int, Reading]
) -> tuple[str, Interval | None]:
    """Whether the work was equal, in words if not, and the speedup over the pairs of whole readings.

    By seconds of equal work; by output tokens per second where the sides did different work.
    """
    if base is None or cell.is_baseline:
        return "", None
    pairs = [(each, its[repeat]) for repeat, each in read.items() if each.is_whole and repeat in its]
    ours = [one for one, other in pairs if other.is_whole]
    theirs = [other for _, other in pairs if other.is_whole]
    if different := _difference(ours, theirs):
        return different, paired_ratio([_rate(each) for each in ours], [_rate(each) for each in theirs])
    return "", paired_ratio([each.compared for each in theirs], [each.compared for each in ours])


def _rate(reading: Reading) -> float:
    """Output tokens per second, 0 where no time was seen to pass."""
    return reading.output_tokens / reading.seconds if reading.seconds > 0 else 0.0


def _difference(ours: Sequence[Reading], theirs: Sequence[Reading]) -> str:
    """Empty for equal answers, or for answers of equal length; else what is compared instead of seconds."""
    if all(one.digest == other.digest for one, other in zip(ours, theirs, strict=True)):
        return ""
    for one, other in zip(ours, theirs, strict=True):
        if abs(one.output_tokens - other.output_tokens) > TOKENS_ALIKE * max(one.output_tokens, other.output_tokens):
            return f"answers differ: {one.output_tokens} against {other.output_tokens} tokens; tokens/s are compared"
    return ""


def _success(readings: Iterable[Reading]) -> Measure:
    asked = answered = 0
    for each in readings:
        units = each.units
        asked, answered = asked + units[0], answered + units[1]
    return Measure(answered / asked, "") if asked else Measure(None, "", "nothing was asked")


def _failed(readings: Iterable[Reading]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in readings:
        for kind, number in each.failed.items():
            counts[kind] = counts.get(kind, 0) + number
    return counts


def _median(values: Sequence[float], unit: str) -> Measure:
    return Measure(median(values), unit) if values else Measure(None, unit, "nothing was measured")


def _bound(readings: Sequence[Reading]) -> Measure:
    shares = [each.bound / (each.seconds + each.loading) for each in readings if each.bound]
    return _median(shares, "") if shares else Measure(None, "", _why(readings, "bound"))


def _memory(readings: Sequence[Reading]) -> Measure:
    peaks = [sum(each.peak_rss.values()) for each in readings if each.peak_rss]
    return Measure(max(peaks), "B") if peaks else Measure(None, "B", _why(readings, "memory"))


def _more_memory(readings: Sequence[Reading], base: Sequence[Reading], workers: float) -> Measure:
    ours, theirs = _memory(readings).value, _memory(base).value
    if workers <= 0 or ours is None or theirs is None:
        return Measure(None, "B", "no more workers than the baseline" if workers <= 0 else "memory was not measured")
    return Measure((ours - theirs) / workers, "B")


def _joules(readings: Sequence[Reading], counts: Sequence[int], unit: str) -> Measure:
    if not readings or any(each.energy is None for each in readings):
        return Measure(None, unit, _why(readings, "energy"))
    spent = [each.energy / count for each, count in zip(readings, counts, strict=True) if each.energy and count]
    return _median(spent, unit)


def _why(readings: Sequence[Reading], what: str) -> str:
    return next((each.missing[what] for each in readings if what in each.missing), "it was not measured")


def _extras(readings: Sequence[Reading]) -> list[str]:
    names = dict.fromkeys(name for each in readings for name in each.extra)
    return [name for name in names if all(name in each.extra for each in readings)]


def laws_of(rows: Sequence[Row], readings: Iterable[Reading], varied: str) -> list[Law]:
    """The law for each set of cells that differ only in the factor `varied`, which counts their workers.

    The baseline of their group, which is the same work with one worker, is a point of each set.
    """
    rates: dict[str, list[float]] = {}
    for each in readings:
        if each.is_whole and each.seconds > 0:
            rates.setdefault(each.cell, []).append(each.output_tokens / each.seconds)
    sets: dict[tuple[str, str], list[Cell]] = {}
    for row in rows:
        if varied in row.cell.factors and isinstance(row.cell.factors[varied], int | float):
            others = ", ".join(str(value) for name, value in row.cell.factors.items() if name != varied)
            sets.setdefault((row.cell.group, others), []).append(row.cell)
    bases = {row.cell.group: row.cell for row in rows if row.cell.is_baseline}
    for (group, _), cells in sets.items():
        base = bases.get(group)
        if base is not None and len(cells) > 1 and base.workers < min(cell.workers for cell in cells):
            cells.insert(0, base)
    return [_law(group, others, cells, rates) for (group, others), cells in sets.items() if len(cells) > 1]


def _law(group: str, others: str, cells: Sequence[Cell], rates: dict[str, list[float]]) -> Law:
    points = [(cell.workers, rate) for cell in cells for rate in rates.get(cell.key, [])]
    fitted = fit_usl([workers for workers, _ in points], [rate for _, rate in points])
    widest = max(cell.workers for cell in cells)
    if isinstance(fitted, Measure):
        none = Measure(None, "", fitted.reason)
        return Law(group=group, of=others, law=None, reason=fitted.reason, best=none, one_more=none, widest=widest)
    more = Measure(fitted.gain(widest), "")
    return Law(group=group, of=others, law=fitted, reason="", best=fitted.best, one_more=more, widest=widest)

"""What a sweep of parallel ways shows: which readings are void, what beats the best single process, and what scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.parallel_crossover import find_crossover
from tokenmill.bench.parallel_ways import DP, MODE, ONE_THREAD, RANKS, SINGLE, TP, group_of
from tokenmill.bench.sentences import ends_of
from tokenmill.bench.table import Row
from tokenmill.report.numbers import figure
from tokenmill.stats.claim import Claim
from tokenmill.stats.interval import Interval, paired_ratio
from tokenmill.stats.scaling import karp_flatt

#: Several workers of which fewer than this are at work at the same time are one.
TOGETHER = 1.1


def voided(cells: Sequence[Cell], readings: Sequence[Reading]) -> list[Reading]:
    """All readings; one whose answers aren't those of its group's baseline has a fault that names the first of them."""
    groups = {cell.key: cell.group for cell in cells}
    titles = {cell.key: cell.title for cell in cells}
    baselines = {cell.key for cell in cells if cell.is_baseline}
    right: dict[str, Reading] = {}
    for each in sorted(readings, key=lambda reading: reading.repeat):
        if each.cell in baselines and each.is_whole:
            right.setdefault(groups[each.cell], each)
    found = []
    for each in readings:
        base = right.get(groups.get(each.cell, ""))
        if base is None or not each.is_whole or each.answers == base.answers:
            found.append(each)
        else:
            found.append(replace(each, fault=_difference(each, base, titles[base.cell])))
    return found


def _difference(reading: Reading, base: Reading, named: str) -> str:
    """The first request, in the order of the input, whose answer is another, and how many there are."""
    differing = [name for name, digest in base.answers.items() if reading.answers.get(name) != digest]
    if not differing:
        return f"void: it answered other requests than {named}"
    return (
        f"void: its greedy answers aren't those of {named}; {differing[0]!r} is the first that differs, "
        f"{len(differing)} of {len(base.answers)} do"
    )


def findings_of(sizes: Sequence[int], rows: Sequence[Row], *, must_equal: bool) -> list[str]:
    """In sentences, each with its evidence."""
    said: list[str] = []
    for size in sizes:
        said += _of_size(group_of(size), [row for row in rows if row.cell.group == group_of(size)], must_equal)
    return said + list(_crossovers(sizes, rows))


def _of_size(group: str, rows: Sequence[Row], must_equal: bool) -> Iterator[str]:
    whole = [row for row in rows if row.seconds.value is not None]
    best = best_single(whole)
    if best is None:
        if rows:
            yield f"{group}: {SINGLE} was not measured whole, so nothing can be said of the other ways"
        return
    yield from _equality(group, rows, whole, must_equal)
    if not best.cell.is_baseline:
        yield f"{group}: of single processes the one with one thread is the fastest, so claims are against that"
    others = [row for row in whole if row.cell.factors[MODE] not in (SINGLE, ONE_THREAD)]
    claims = [(row, _claim(row, best)) for row in others]
    for row, claim in claims:
        yield f"{group}: {row.cell.title}: {claim}, against {best.cell.title}"
    if claims and all(claim.finding in ("no difference", "worse") for _, claim in claims):
        yield f"{group}: parallelism does not pay here: no way was shown to be faster than {best.cell.title}"
    for row in others:
        yield from _disguised(group, row)
    one = next((row for row in whole if row.cell.factors[MODE] == ONE_THREAD), None) or best
    for row in others:
        if row.cell.factors[MODE] == DP:
            yield from _serial(group, row, one)


def best_single(rows: Sequence[Row]) -> Row | None:
    """The baseline, unless one thread alone is shown to be faster; None where the baseline isn't there."""
    base = next((row for row in rows if row.cell.is_baseline), None)
    thread = next((row for row in rows if row.cell.factors[MODE] == ONE_THREAD), None)
    is_faster = thread is not None and thread.claim is not None and thread.claim.finding == "better"
    return thread if base is not None and is_faster else base


def _claim(row: Row, best: Row) -> Claim:
    """Against the best single process, in pairs."""
    if best.cell.is_baseline and row.claim is not None:
        return row.claim
    return Claim(ratio=_ratio(row.rates, best.rates))


def _ratio(these: Mapping[int, float], those: Mapping[int, float]) -> Interval:
    pairs = sorted(repeat for repeat in these if repeat in those)
    return paired_ratio([these[each] for each in pairs], [those[each] for each in pairs])


def _equality(group: str, rows: Sequence[Row], whole: Sequence[Row], must_equal: bool) -> Iterator[str]:
    digests = {digest for row in whole for digest in row.digests}
    if len(digests) == 1:
        void = [row.cell.title for row in rows if any(fault.startswith("void") for fault in row.faults)]
        without = f"; void are {', '.join(void)}" if void else ""
        times = max(row.readings for row in whole)
        repeats = f" in each of {times} repeats" if times > 1 else ""
        yield f"{group}: {len(whole)} ways wrote the same answers{repeats}{without}"
    elif not must_equal:
        yield f"{group}: answers differ, as they may in bf16; where their tokens do as well, tokens/s are compared"


def _disguised(group: str, row: Row) -> Iterator[str]:
    """Workers that took turns, or of which one did everything."""
    number, seen = row.cell.factors.get(RANKS, 1), row.extra.get("at_work")
    if row.cell.factors[MODE] == DP and number != 1 and seen is not None and seen < TOGETHER:
        yield f"{group}: {row.cell.title}: parallel in name only, {seen:.2f} workers generated at the same time"


def _serial(group: str, row: Row, one: Row) -> Iterator[str]:
    """How data parallel scales with what it was given, by Karp and Flatt; `one` is the process with the least."""
    shares = row.cell.workers / one.cell.workers
    ratio = _ratio(row.rates, one.rates)
    if row.cell.factors.get(RANKS) == 1 or shares <= 1 or ratio.value is None:
        return
    unit = "cores" if one.cell.factors[MODE] == ONE_THREAD else "GPUs"
    ends = ends_of(ratio)
    parts = [karp_flatt(each, shares).value for each in (ratio.value, ratio.high, ratio.low) if each]
    serial, *limits = [part for part in parts if part is not None]
    span = f" ({limits[0]:.3f} to {limits[1]:.3f})" if len(limits) == 2 else ""
    yield (
        f"{group}: {row.cell.title} on {row.cell.workers:g} {unit} are "
        f"{figure(ratio.value)}{f' ({ends})' if ends else ''} times as fast as {one.cell.title}: efficiency "
        f"{100 * ratio.value / shares:.0f} % of {shares:g} times the {unit}, serial fraction (Karp and Flatt) "
        f"{serial:.3f}{span}"
    )


def _crossovers(sizes: Sequence[int], rows: Sequence[Row]) -> Iterator[str]:
    """Between tensor and data parallel, for each number of workers that both were asked for."""
    asked: dict[str, set[int]] = {TP: set(), DP: set()}
    rates: dict[tuple[str, int], dict[int, dict[int, float]]] = {}
    for row in rows:
        mode = str(row.cell.factors[MODE])
        if mode in asked:
            number = int(row.cell.factors[RANKS])
            asked[mode].add(number)
            if row.rates:
                rates.setdefault((mode, number), {})[int(row.cell.group.split()[0])] = row.rates
    for number in sorted(asked[TP] & asked[DP]):
        name = f"crossover of {TP} and {DP} with {number}"
        without = [mode for mode in (TP, DP) if (mode, number) not in rates]
        if without:
            yield f"{name}: not found, {' and '.join(without)} could not be measured"
            continue
        found = find_crossover(rates[TP, number], rates[DP, number])
        if found.low is None or found.high is None or found.at is None:
            reason = found.reason.replace("the first is", f"{TP} is").replace("the second is", f"{DP} is")
            yield f"{name}, {min(sizes)} to {max(sizes)} texts: not found, {reason}"
            continue
        small, large = (TP, DP) if found.is_first_small else (DP, TP)
        yield (
            f"{name}: found at about {figure(found.at)} texts (95 % interval {found.low} to {found.high}): up to "
            f"{found.low} {small} is faster, from {found.high} on {large}"
        )

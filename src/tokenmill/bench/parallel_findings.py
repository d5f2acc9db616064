"""What a sweep of parallel ways shows: which readings are void, what beats the best single process, and what scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from tokenmill.bench.cell import Cell, Reading
from tokenmill.bench.parallel_crossover import find_crossover
from tokenmill.bench.parallel_used import WHOLE_POWER
from tokenmill.bench.parallel_ways import DP, MODE, ONE_THREAD, RANKS, SINGLE, TP, group_of
from tokenmill.bench.sentences import ends_of
from tokenmill.bench.table import Row, speedups_of
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


def rebased(cells: Sequence[Cell], readings: Sequence[Reading]) -> list[Cell]:
    """The cells; in groups where one thread is shown to be faster than all cores, that is the baseline."""
    faster = set()
    for group in dict.fromkeys(cell.group for cell in cells):
        singles = [cell for cell in cells if cell.group == group and cell.factors[MODE] in (SINGLE, ONE_THREAD)]
        if any(Claim(ratio=each).finding == "better" for each in speedups_of(singles, readings)):
            faster.add(group)
    return [
        replace(cell, is_baseline=cell.factors[MODE] == ONE_THREAD) if cell.group in faster else cell for cell in cells
    ]


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


def power_of(rows: Sequence[Row]) -> Iterator[str]:
    """What the figures of power and energy are of; by rows, where these don't count the same parts."""
    told: dict[str, list[str]] = {}
    for row in rows:
        if "power" in row.extra and (parts := row.missing.get(WHOLE_POWER)):
            told.setdefault(parts, []).append(f"{row.cell.group}: {row.cell.title}")
    for parts, ways in told.items():
        which = f" of {', '.join(ways)}, not to be compared with those of other rows," if len(told) > 1 else ""
        yield f"power, energy and J/token{which} are those of {parts}"


def _of_size(group: str, rows: Sequence[Row], must_equal: bool) -> Iterator[str]:
    whole = [row for row in rows if row.seconds.value is not None]
    best = next((row for row in whole if row.cell.is_baseline), None)
    if best is None:
        if rows:
            yield f"{group}: {SINGLE} was not measured whole, so nothing can be said of the other ways"
        return
    yield from _equality(group, rows, whole, must_equal)
    if best.cell.factors[MODE] == ONE_THREAD:
        yield f"{group}: one thread is shown to be faster than all cores, so it is what others are held against"
    others = [row for row in whole if row.cell.factors[MODE] not in (SINGLE, ONE_THREAD)]
    claims = [(row, row.claim) for row in others if row.claim is not None]
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
    unit = "core" if one.cell.factors[MODE] == ONE_THREAD else "GPU"
    ends = ends_of(ratio)
    parts = [karp_flatt(each, shares).value for each in (ratio.value, ratio.high, ratio.low) if each]
    serial, *limits = [part for part in parts if part is not None]
    span = f" ({limits[0]:.3f} to {limits[1]:.3f})" if len(limits) == 2 else ""
    times = f"{figure(ratio.value)}{f' ({ends})' if ends else ''} times the speed"
    yield (
        f"{group}: {row.cell.title}, on {row.cell.workers:g} {unit}s: {times} of {one.cell.title} on "
        f"{one.cell.workers:g}: efficiency {100 * ratio.value / shares:.0f} % per {unit}, serial fraction (Karp and "
        f"Flatt) {serial:.3f}{span}"
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
            swept = f", {min(sizes)} to {max(sizes)} texts" if len(sizes) > 1 else ""
            yield f"{name}{swept}: not found, {reason}"
            continue
        small, large = (TP, DP) if found.is_first_small else (DP, TP)
        yield (
            f"{name}: found at about {figure(found.at)} texts (95 % interval {found.low} to {found.high}): up to "
            f"{found.low} {small} is faster, from {found.high} on {large}"
        )

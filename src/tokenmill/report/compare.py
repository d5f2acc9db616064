"""Several runs side by side, and whether they did equal work; without pairs no claim is made.

One run of each kind shows what these runs did and not what the next would do, so a difference is described, never
claimed: a claim needs pairs, their interval, and that is what `tokenmill bench` measures. Runs of unequal work are
still shown, each difference named, and then only rates may be read against each other, if that.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from msgspec import Struct

from tokenmill.report.causes import NAMES
from tokenmill.report.certificate import Certificate
from tokenmill.report.dossier import Dossier, Work
from tokenmill.report.measure import Measure
from tokenmill.report.numbers import measure, seconds
from tokenmill.report.visible import visible

#: Answers may differ by so much in length, over all and for a row, before the work counts as different.
ALIKE = 0.01

NO_CLAIM = (
    "no claim: single runs show what was, not what the next run would be; 'tokenmill bench' measures in pairs and "
    "gives an interval"
)

_SAME = {
    "input": "the bytes of the input",
    "model": "the model's digest",
    "options": "the options that shape answers",
    "rows": "the number of rows",
}


class Compared(Struct, frozen=True, kw_only=True):
    """One run of a comparison; `against_first` is the makespan of the first run over this one's."""

    run: str
    certificate: Certificate
    against_first: Measure


class Comparison(Struct, frozen=True, kw_only=True):
    """Runs in the order given. `differences` say why the work isn't equal; there is a ratio only where it is."""

    runs: tuple[Compared, ...]
    is_equal_work: bool
    differences: tuple[str, ...]
    claim: str


def compare(dossiers: Sequence[Dossier]) -> Comparison:
    """Compares every run with the first one."""
    first, *others = dossiers
    differences = tuple(reason for other in others for reason in _differences(first, other))
    base = first.certificate.metrics.makespan.value or 0.0
    runs = []
    for dossier in dossiers:
        makespan = dossier.certificate.metrics.makespan.value or 0.0
        is_equal = not _differences(first, dossier)
        reason = "not equal work" if not is_equal else "no time passed"
        ratio = base / makespan if is_equal and makespan > 0 else None
        shown = Measure(ratio, "x", "" if ratio is not None else reason)
        runs.append(Compared(run=dossier.run, certificate=dossier.certificate, against_first=shown))
    return Comparison(runs=tuple(runs), is_equal_work=not differences, differences=differences, claim=NO_CLAIM)


def _differences(first: Dossier, other: Dossier) -> list[str]:
    """Why the work of two runs isn't equal; empty if it is."""
    found = [
        f"{other.run}: {what} differ{'s' if name in ('model', 'rows') else ''} from {first.run}"
        for name, what in _SAME.items()
        if _part(first.work, name) != _part(other.work, name)
    ]
    mine, theirs = first.tokens, other.tokens
    if mine.keys() != theirs.keys():
        found.append(f"{other.run}: answered {len(theirs):,} rows, {first.run} {len(mine):,}, or not the same ones")
    apart = sum(
        abs(mine[row] - theirs[row]) > ALIKE * max(mine[row], theirs[row]) for row in mine.keys() & theirs.keys()
    )
    if apart:
        found.append(
            f"{other.run}: {apart:,} answers differ from {first.run} by more than 1 % in tokens; compare tokens/s"
        )
    return found


def _part(work: Work, name: str) -> object:
    return getattr(work, name)


HEAD = ("makespan", "bound", "ratio", "tok/s", "p95", "failed", "largest cause", "x first")


def cells(compared: Compared) -> tuple[str, ...]:
    """One run in a line, under `HEAD`; p95 is that of the latency."""
    certificate = compared.certificate
    figures, bound, why = certificate.metrics, certificate.bound, certificate.causes
    cause = f"{NAMES[why.largest]} {seconds(getattr(why, why.largest))}" if why is not None and why.largest else "none"
    return (
        measure(figures.makespan),
        measure(bound.bound),
        measure(bound.ratio),
        measure(figures.output_tokens_per_second).removesuffix(" tok/s"),
        measure(figures.latency.p95),
        f"{sum(certificate.scope.failed.values()):,}",
        cause if why is not None else "n/a",
        measure(compared.against_first).removesuffix(" x"),
    )


def lines(comparison: Comparison, width: int) -> list[str]:
    """The comparison for a terminal: a table where it fits, else a block for each run; then what may be claimed."""
    rows = [(visible(each.run), *cells(each)) for each in comparison.runs]
    table = [("run", *HEAD), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    shown = [_line(row, widths) for row in table]
    if max(map(len, shown)) > width:
        shown = [line for row in rows for line in _block(row)]
    equal = "equal work: same input, model and options, answers of like length"
    unequal = [f"not equal work: {visible(difference)}" for difference in comparison.differences]
    said = [*(unequal or [equal]), comparison.claim]
    return [*shown, "", *(part for text in said for part in textwrap.wrap(text, width, subsequent_indent="  "))]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    """Run and cause to the left, figures to the right."""
    pairs = enumerate(zip(row, widths, strict=True))
    return "  ".join(
        cell.ljust(width) if place in (0, 7) else cell.rjust(width) for place, (cell, width) in pairs
    ).rstrip()


def _block(row: Sequence[str]) -> list[str]:
    return [row[0], *(f"  {label:<14}{cell}" for label, cell in zip(HEAD, row[1:], strict=True))]

"""What nodes alone and together show: use all of them, or one; and who would have said so without measuring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from tokenmill.bench.neighbours import Neighbours
from tokenmill.bench.table import Row
from tokenmill.driver.verdicts import known_of, unlike
from tokenmill.schedule.trial import Verdict
from tokenmill.stats.claim import Claim
from tokenmill.stats.interval import Interval, paired_ratio

ALL, ONE = "use all", "use one"


class Compared(Struct, frozen=True, kw_only=True):
    """`nodes` together against the `best` of them alone, in output tokens per second of the same repeats.

    `total`: tokens/s of all of them alone, summed. `more`: the first one alone with as many requests in flight as they
    have together, against them together; None where that was not measured. `faults`: why readings are missing.
    """

    batch: int
    nodes: tuple[int, ...]
    best: int
    together: float | None
    alone: float | None
    total: float | None
    claim: Claim
    more: Claim | None
    faults: tuple[str, ...]

    @property
    def use(self) -> str:
        """What follows; empty if nothing does. Nodes of which no gain was shown are not worth their memory."""
        finding = self.claim.finding
        return "" if finding == "n/a" else ALL if finding == "better" else ONE

    @property
    def verdict(self) -> Verdict | None:
        """The same for runs, if the interval decides."""
        ratio = self.claim.ratio
        if self.claim.finding not in ("better", "worse") or self.together is None or self.alone is None:
            return None
        assert ratio.low is not None
        assert ratio.high is not None
        return Verdict(
            nodes=self.nodes if self.use == ALL else (self.best,),
            together=self.together,
            alone=self.alone,
            low=ratio.low - 1,
            high=ratio.high - 1,
        )


def compared(batch: int, nodes: tuple[int, ...], together: Row, alone: Sequence[Row], as_many: Row | None) -> Compared:
    """`alone` in the order of `nodes`; `as_many` is the first one with as many requests in flight as all have."""
    rates = [row.rate.value or 0.0 for row in alone]
    best = max(range(len(alone)), key=rates.__getitem__)
    return Compared(
        batch=batch,
        nodes=nodes,
        best=nodes[best],
        together=together.rate.value,
        alone=alone[best].rate.value,
        total=sum(rates) if all(rates) else None,
        claim=Claim(ratio=_ratio(together, alone[best])),
        more=None if as_many is None else Claim(ratio=_ratio(as_many, together)),
        faults=tuple(dict.fromkeys(fault for row in (together, *alone) for fault in (*row.faults, *_failures(row)))),
    )


def findings_of(each: Compared, found: Neighbours) -> Iterator[str]:
    """In sentences: what was measured, what of it comes from more requests in flight, and who would have known."""
    names = [found.names[node] for node in each.nodes]
    where = f"batch {each.batch}, {' + '.join(names)}"
    ratio = each.claim.ratio
    start = f"{where} ({found.place_of(each.nodes)})"
    if ratio.value is None:
        yield f"{start}: not compared: {'; '.join(each.faults) or ratio.reason}"
        return
    said = f"{start}: together {_told(ratio)} of the best alone, {found.names[each.best]}"
    unsure = ", as no gain was shown" if each.claim.finding == "no difference" else ""
    yield f"{said}: {each.use + unsure if each.use else f'nothing follows, {each.claim.reason}'}"
    if each.together is not None and each.total:
        yield f"{where}: {each.together / each.total:.2f} of the sum of them alone; {found.why(each.nodes)}"
    if each.more is not None and each.more.ratio.value is not None:
        yield f"{where}: {_of_more(each, names[0])}"
    machines = found.addresses(each.nodes)
    rule = ALL if machines > 1 else ONE
    right = f", {'as' if rule == each.use else 'unlike what'} was measured" if each.use else ""
    yield f"{where}: a rule by addresses counts {machines} machine{'s' * (machines > 1)}: {rule}{right}"
    yield from (f"{where}: {words}" for words in _stored(each, found))


def _of_more(each: Compared, first: str) -> str:
    """Whether it takes the other nodes, or only their requests."""
    assert each.more is not None
    many = each.batch * len(each.nodes)
    said = f"{first} alone with {many} in flight: {_told(each.more.ratio)} of them together"
    match each.use, each.more.finding:
        case "use all", "better" | "no difference":
            return f"{said}: not shown to need another node, more requests in flight do as well"
        case "use all", "worse":
            return f"{said}: it is the other nodes that help"
        case _:
            return said


def _stored(each: Compared, found: Neighbours) -> Iterator[str]:
    """What a verdict from before says of the same nodes."""
    group = found.group(each.nodes)
    if group is None:
        return
    asked = replace(group, slots=each.batch)
    known = known_of(asked, found.kept)
    if known is not None:
        use = ALL if len(known.nodes) > 1 else ONE
        agrees = "" if not each.use else ", which this bears out" if use == each.use else ", which this contradicts"
        yield f"the verdict of {known.stored} says: {use}{agrees}"
    elif (other := unlike(asked, found.kept)) is not None:
        yield f"the verdict of {other.date} was measured {other.use_in_words}, and says nothing of this"


def _ratio(these: Row, those: Row) -> Interval:
    """By the repeats that both have."""
    both = sorted(these.rates.keys() & those.rates.keys())
    return paired_ratio([these.rates[each] for each in both], [those.rates[each] for each in both])


def _told(ratio: Interval) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.2f} (no interval)"
    return f"{ratio.value:.2f} (95 % interval {ratio.low:.2f} to {ratio.high:.2f}, n = {ratio.repeats})"


def _failures(row: Row) -> list[str]:
    return [f"{count} failed, {kind}" for kind, count in row.failed.items()]

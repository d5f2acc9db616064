"""What to do about it: each piece of advice with the evidence that led to it. Pure, and never without evidence.

The rules look at what the certificate found, from what hurts most to what is merely worth knowing: requests that
failed, a loop that calls itself a batch, the largest avoidable cause, nodes that share a device, and the limit itself
where the run came close to it. Numbers of the advice are those of the certificate; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from tokenmill.report.audit import SEQUENTIAL, Audit
from tokenmill.report.bound import UNKNOWN, Bound
from tokenmill.report.causes import NAMES, Causes
from tokenmill.report.facts import RunFacts, Shared
from tokenmill.report.metrics import Metrics
from tokenmill.report.numbers import figure, seconds

#: From this ratio on there is little left to schedule better, and the limit itself is what to change.
CLOSE = 0.9

#: A device that writes at most this much faster with many streams than one stream alone does gains nothing from them.
SIMILAR = 1.15

#: A mean batch width below this part of the widest known is worth naming where work was slower than at its best.
NARROW = 0.8

#: Classes of failure and what helps.
REMEDIES = {
    "crash": "lower --slots or --kv-memory, then take the rows back with 'tokenmill retry RUN --class crash'",
    "transient": "try again with 'tokenmill retry RUN --class transient'; with --retries each row gets more attempts",
    "timeout": "give the node fewer requests at once (--slots), then 'tokenmill retry RUN --class timeout'",
    "too_long": "shorten these prompts, or raise --context if the model can take more",
    "refused": "read the server's own words with 'tokenmill explain RUN CUSTOM_ID'; the same request fails again",
    "empty": "look at these prompts; --odd empty=flag keeps empty answers and marks them",
    "repetition": "lower --max-tokens or sample with --temperature; --odd repetition=flag keeps such answers",
    "length": "raise --max-tokens, or keep cut answers with --odd length=flag",
    "filtered": "the server's filter refused the answer; --odd filtered=flag keeps what it let through",
    "cut": "raise --context, as the server cut these prompts silently",
    "poison": "look at these prompts: the engine died on each of them while it ran alone",
    "unreachable": "check the nodes with 'tokenmill nodes check', then 'tokenmill retry RUN --class unreachable'",
    "busy": "ask for less (--slots, --rpm), then 'tokenmill retry RUN --class busy'",
    "misconfigured": "check key, model name and URL with 'tokenmill nodes check'",
}
OTHER = "read what happened with 'tokenmill explain RUN CUSTOM_ID'"


class Advice(Struct, frozen=True, kw_only=True):
    """What to do, under a `name` that doesn't change, and what was seen that says so."""

    name: str
    text: str
    evidence: tuple[str, ...]


class Seen(Struct, frozen=True, kw_only=True):
    """The findings that advice is drawn from."""

    facts: RunFacts
    metrics: Metrics
    bound: Bound
    causes: Causes | None
    audit: Audit

    @property
    def makespan(self) -> float:
        return self.metrics.makespan.value or 0.0

    @property
    def slots(self) -> int:
        return sum(node.slots for node in self.facts.nodes)

    @property
    def is_packed(self) -> bool:
        """Whether long answers were already begun first."""
        return self.facts.order in ("longest-first", "packed") or self.facts.strategy == "auto"


def advise(seen: Seen) -> tuple[Advice, ...]:
    """All that can be said, the most pressing first; at most one piece for each name."""
    found: dict[str, Advice] = {}
    for advice in (*_failures(seen), *_parallel(seen), *_cause(seen), *_shared(seen), *_limit(seen)):
        found.setdefault(advice.name, advice)
    return tuple(found.values())


def remedy(kind: str) -> str:
    """What helps against a class of failure."""
    return REMEDIES.get(kind, OTHER)


def _failures(seen: Seen) -> Iterator[Advice]:
    failed, rows = seen.facts.failed, seen.facts.rows_total
    total = sum(failed.values())
    if not total:
        return
    worst = max(failed, key=failed.__getitem__)
    counted = ", ".join(f"{count:,} {kind}" for kind, count in sorted(failed.items(), key=lambda pair: -pair[1]))
    lost = "every request failed" if total == rows else f"{total:,} of {rows:,} requests failed"
    yield Advice(
        name="failures",
        text=f"{_start(remedy(worst))}.",
        evidence=(f"{lost}: {counted}",),
    )


def _parallel(seen: Seen) -> Iterator[Advice]:
    """Whether requests really ran together, and whether that pays on this device."""
    audit, bound = seen.audit, seen.bound
    if audit.verdict == SEQUENTIAL:
        yield Advice(
            name="sequential",
            text="Use an engine that batches, or one node per device: these requests were sent together and answered "
            "one by one.",
            evidence=(f"{audit.verdict}: {audit.reason}",),
        )
    if bound.ratio.value is None and bound.ratio.reason == UNKNOWN and len(seen.facts.nodes):
        yield Advice(
            name="unknown-limit",
            text="Answer some of the rows with several in flight (--slots 8): until that was measured on this device, "
            "nobody can say how much faster it could be.",
            evidence=(f"{UNKNOWN}; {seen.audit.most_in_flight} in flight at most",),
        )
    yield from _similar(seen)


def _similar(seen: Seen) -> Iterator[Advice]:
    """One stream alone that is as quick as the device at its best shows that width brings nothing there."""
    devices, pace = seen.bound.devices, seen.bound.single_stream.value
    if len(devices) != 1 or not pace or devices[0].decode <= 0:
        return
    (device,) = devices
    gain = device.decode * pace
    if device.width >= 1.5 and gain < SIMILAR:
        yield Advice(
            name="parallel-pays-not",
            text="Send one request at a time: parallelism doesn't pay on this device, it only makes each answer wait.",
            evidence=(
                f"one stream alone writes {figure(1 / pace)} tok/s, all together {figure(device.decode)} tok/s "
                f"at width {device.width:.1f}",
            ),
        )


def _cause(seen: Seen) -> Iterator[Advice]:
    why = seen.causes
    if why is None or not why.largest or seen.makespan <= 0:
        return
    lost = getattr(why, why.largest)
    share = f"{NAMES[why.largest]} cost {seconds(lost)}, {100 * lost / seen.makespan:.0f} % of the run"
    text, more = _REMEDY_OF[why.largest](seen)
    yield Advice(name=why.largest, text=text, evidence=(share, *more))


def _loading(seen: Seen) -> tuple[str, tuple[str, ...]]:
    text = "Send more rows in one run, or use a server that keeps the model loaded: loading is paid once a run."
    sessions = len(seen.facts.sessions)
    return text, (f"{sessions} sessions, each of which loaded",) if sessions > 1 else ()


def _retried(seen: Seen) -> tuple[str, tuple[str, ...]]:
    text = "Find out why attempts ended without an answer ('tokenmill explain RUN CUSTOM_ID'); fewer requests at once "
    failed = sum(seen.facts.failed.values())
    return text + "(--slots) help where a node is overloaded.", (
        f"{failed:,} of {seen.facts.rows_total:,} rows failed in the end",
    )


def _cooling(seen: Seen) -> tuple[str, tuple[str, ...]]:
    text = "See why nodes were held back: rate limits (--rpm, --tpm), restarts or back-off after failures; another "
    count = len(seen.facts.nodes)
    return text + "node would have worked meanwhile.", (f"{count} nodes" if count > 1 else "there was 1 node",)


def _client(seen: Seen) -> tuple[str, tuple[str, ...]]:
    most, slots = seen.audit.most_in_flight, seen.slots
    evidence = (f"{most} requests in flight at most, on {slots} slots, while others were waiting",)
    if seen.facts.strategy in ("sequential", "static"):
        return f"Use --strategy pull: {seen.facts.strategy} leaves slots idle while rows are waiting.", evidence
    if most < slots:
        return f"Have {slots} requests in flight: fewer were sent than the nodes have slots.", evidence
    return "Give the client more of a processor: slots waited for it to send, although rows were there.", evidence


def _tail(seen: Seen) -> tuple[str, tuple[str, ...]]:
    rows, slots, longest = seen.facts.rows_total, seen.slots, seen.bound.longest.value
    evidence = [f"{rows:,} rows on {slots} slots"]
    if longest and seen.makespan:
        evidence.append(f"the longest answer alone takes {seconds(longest)}")
    if rows < 2 * slots:
        return f"Send more rows in one run, or use fewer slots: {slots} slots can't stay busy with {rows} rows.", tuple(
            evidence
        )
    if not seen.is_packed:
        return "Begin long answers first (--order longest-first, or packed): slots ran empty at the end.", tuple(
            evidence
        )
    return "Bound the longest answers (--max-tokens), or send more rows in one run: slots ran empty at the end.", tuple(
        evidence
    )


def _slower(seen: Seen) -> tuple[str, tuple[str, ...]]:
    width, best = seen.audit.width_mean.value, max((device.width for device in seen.bound.devices), default=0.0)
    rate = seen.metrics.output_tokens_per_second.value or 0.0
    known = sum(device.decode * device.present for device in seen.bound.devices)
    evidence = (f"{figure(rate)} tok/s over the run, {figure(known)} tok/s at the devices' best",)
    if width is not None and best > 0 and width < NARROW * best:
        text = (
            f"Have more requests in flight: batches were {width:.1f} wide on average, the widest known is {best:.1f}."
        )
        return text, evidence
    text = "See what else used the devices, and keep prompts and answers of like length together: work was slower than "
    return text + "these devices have shown.", evidence


_REMEDY_OF = {
    "loading": _loading,
    "retried": _retried,
    "cooling": _cooling,
    "client": _client,
    "tail": _tail,
    "slower": _slower,
}


def _shared(seen: Seen) -> Iterator[Advice]:
    """What was measured of nodes that may share a device."""
    for shared in seen.facts.shared:
        yield Advice(
            name=f"shared {', '.join(shared.nodes)}",
            text=_shared_text(shared),
            evidence=(
                f"{figure(shared.together)} tok/s together, {figure(shared.alone)} alone: {_percent(shared.gain)}, "
                f"95 % interval {_percent(shared.low)} to {_percent(shared.high)}, measured on {shared.date}",
            ),
        )


def _shared_text(shared: Shared) -> str:
    names = " and ".join(shared.nodes)
    if shared.is_worth_it:
        return f"Keep using {names} together: they gain {_percent(shared.gain)}."
    if shared.high < 0:
        return f"Use one of {names}: together they are slower."
    return f"Use one of {names}: no gain from using them together was shown."


def _limit(seen: Seen) -> Iterator[Advice]:
    """Where nothing was lost, only the limit itself is left to move."""
    ratio, binding = seen.bound.ratio.value, seen.bound.binding
    if ratio is None or ratio < CLOSE:
        return
    evidence = (f"the run came to {ratio:.2f} of the bound, which is set by {_BINDING[binding][0]}",)
    yield Advice(name=f"limit-{binding}", text=_BINDING[binding][1], evidence=evidence)


_BINDING = {
    "decode": (
        "writing the output",
        "To be faster, write less (--max-tokens) or use a smaller or quantized model or more devices: this one writes "
        "as fast as it was ever seen to, and scheduling can't change that.",
    ),
    "prefill": (
        "reading the prompts",
        "To be faster, shorten the prompts, or share their beginnings (--strategy prefix): reading them is the limit.",
    ),
    "longest": (
        "the longest answer",
        "To be faster, bound the longest answers (--max-tokens): one of them takes the whole run, and more slots or "
        "nodes can't help.",
    ),
}


def _percent(share: float) -> str:
    return f"{100 * share:+.0f} %"


def _start(text: str) -> str:
    return text[:1].upper() + text[1:]

"""The certificate for a terminal: plain lines of at most `width` columns, 40 at least.

Nothing a model wrote appears here, and names are stripped of control characters. Meaning never hangs on colour, so
there is none. With `ascii` the lines hold ASCII only, for terminals that can't show block characters.
"""

from __future__ import annotations

import textwrap
from itertools import pairwise

from tokenmill.report import data_set
from tokenmill.report.bound import Bound, DeviceRates
from tokenmill.report.causes import NAMES, Causes
from tokenmill.report.certificate import Certificate
from tokenmill.report.flow import Series
from tokenmill.report.measure import Measure, Spread
from tokenmill.report.numbers import NONE, figure, measure, seconds
from tokenmill.report.spoken_resources import DEFINED, spoken

NARROWEST = 40
LABEL = 12
CELL = 9
BAR = 24
#: Seconds too short to be lost: what rounding leaves of times that are equal.
INSTANT = 1e-9
#: Devices that are shown.
DEVICES = 8

BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII_BLOCKS = " .:-=+*#@"

PARTS = {
    "longest": "the longest answer, written alone",
    "prefill": "reading the prompts",
    "decode": "writing the output",
}

#: The definitions that belong to what the text shows, in its order.
SHOWN = {
    "makespan": "makespan",
    "TTFT": "ttft",
    "ITL": "itl",
    "TPOT": "tpot",
    "latency": "latency",
    "wait": "wait",
    "percentiles": "percentiles",
    "bound": "bound",
    "longest": "longest",
    "prefill": "prefill",
    "decode": "decode",
    "best window": "decode_window",
    "ratio": "ratio",
    "missing": "gap",
    "loading": "loading",
    "retried work": "retried",
    "cooling": "cooling",
    "client": "client",
    "tail": "tail",
    "slower": "slower",
    "unavoidable": "unavoidable",
    "overlap": "overlap",
    "batch width": "width_mean",
    "in flight": "in_flight",
}


def lines(certificate: Certificate, width: int = 80, *, ascii: bool = False, definitions: bool = True) -> list[str]:
    """The certificate as lines without line ends."""
    page = _Page(max(NARROWEST, width), ASCII_BLOCKS if ascii else BLOCKS)
    page.section("Certificate")
    for sentence in certificate.verdict:
        page.text(sentence[:1].upper() + sentence[1:] + ".")
    _scope(page, certificate)
    _data_set(page, certificate)
    _times(page, certificate)
    _bound(page, certificate.bound)
    if certificate.causes is not None:
        _causes(page, certificate.causes)
    _audit(page, certificate)
    _resources(page, certificate)
    _advice(page, certificate)
    if definitions:
        page.section("Definitions")
        shown = SHOWN | (DEFINED if certificate.resources is not None else {})
        shown |= data_set.DEFINED if certificate.data_set is not None else {}
        for label, name in shown.items():
            page.text(f"{label}: {certificate.definitions[name]}", hang=2)
    return page.lines


def _data_set(page: _Page, certificate: Certificate) -> None:
    if certificate.data_set is not None:
        page.section(f"Data set: {certificate.data_set.recipe}")
        for label, text in data_set.spoken(certificate.data_set):
            page.fact(label, text)


def _resources(page: _Page, certificate: Certificate) -> None:
    if certificate.resources is not None:
        page.section("Resources")
        for label, text in spoken(certificate.resources):
            page.fact(label, text)


class _Page:
    """Lines that fit."""

    def __init__(self, width: int, blocks: str) -> None:
        self.width = width
        self.blocks = blocks
        self.lines: list[str] = []

    def section(self, title: str) -> None:
        if self.lines:
            self.lines.append("")
        self.lines.append(title)

    def text(self, text: str, hang: int = 0) -> None:
        self.lines += textwrap.wrap(_printable(text), self.width, subsequent_indent=" " * hang)

    def fact(self, label: str, text: str) -> None:
        """A label and what it is, wrapped under itself."""
        indent = " " * LABEL
        head = f"{label:<{LABEL - 1}} "
        self.lines += textwrap.wrap(_printable(text), self.width, initial_indent=head, subsequent_indent=indent)

    def bar(self, share: float, room: int) -> str:
        length = round(min(share, 1.0) * min(room, BAR))
        return self.blocks[-1] * length

    def sparkline(self, series: Series, room: int) -> str:
        values = _resample(series.values, room)
        top = max(values, default=0.0)
        if top <= 0:
            return ""
        steps = len(self.blocks) - 1
        # Anything above nothing is visible.
        return "".join(self.blocks[max(round(value / top * steps), int(value > 0))] for value in values)


def _scope(page: _Page, certificate: Certificate) -> None:
    scope, figures = certificate.scope, certificate.metrics
    page.section("Work")
    rows = f"{scope.answered:,} of {scope.rows:,} answered"
    for kind, count in sorted(scope.failed.items()):
        rows += f", {count:,} failed ({kind})"
    page.fact("rows", rows)
    sent = (
        f"{scope.attempts:,}, {scope.retries:,} of them without an answer" if scope.retries else f"{scope.attempts:,}"
    )
    page.fact("attempts", sent + (f", in {scope.sessions} sessions" if scope.sessions > 1 else ""))
    page.fact("model", ", ".join(scope.models) or NONE)
    page.fact("nodes", f"{scope.nodes} with {scope.slots} slots together")
    page.fact("tokens", f"{figures.prompt_tokens:,} read, {figures.output_tokens:,} written")


def _times(page: _Page, certificate: Certificate) -> None:
    figures = certificate.metrics
    page.section("Time")
    page.fact("makespan", f"{measure(figures.makespan)}, {measure(figures.makespan_without_loading)} without loading")
    rates = (figures.requests_per_second, figures.output_tokens_per_second)
    page.fact("throughput", ", ".join(measure(rate) for rate in rates))
    page.lines.append(" " * LABEL + "".join(f"{name:>{CELL}}" for name in ("p50", "p95", "p99")))
    reasons: dict[str, list[str]] = {}
    rows = {"TTFT": figures.ttft, "ITL": figures.itl, "TPOT": figures.tpot}
    rows |= {"latency": figures.latency, "wait": figures.wait}
    for label, spread in rows.items():
        page.lines.append(f"{label:<{LABEL}}" + "".join(f"{measure(cell):>{CELL}}" for cell in _cells(spread)))
        for cell in _cells(spread):
            if cell.reason and label not in reasons.setdefault(cell.reason, []):
                reasons[cell.reason].append(label)
    page.fact("ITL", f"{measure(figures.itl_mean)} on average, {measure(figures.itl_max)} at most")
    for reason, labels in reasons.items():
        page.text(f"n/a ({', '.join(labels)}): {reason}", hang=2)


def _cells(spread: Spread) -> tuple[Measure, Measure, Measure]:
    return spread.p50, spread.p95, spread.p99


def _bound(page: _Page, bound: Bound) -> None:
    page.section("Bound")
    if bound.bound.value is None:
        page.fact("bound", f"{NONE}: {bound.bound.reason}")
        return
    page.fact("bound", f"{measure(bound.bound)}, set by {PARTS[bound.binding]}")
    for name, text in PARTS.items():
        part: Measure = getattr(bound, name)
        page.fact(f"  {name}", f"{measure(part)}: {part.reason or text}")
    page.fact("ratio", measure(bound.ratio) if bound.ratio.value is not None else f"{NONE}: {bound.ratio.reason}")
    for device in bound.devices[:DEVICES]:
        page.fact("device", _device(device))
    if len(bound.devices) > DEVICES:
        page.fact("", f"and {len(bound.devices) - DEVICES} more devices")


def _device(device: DeviceRates) -> str:
    text = f"{device.device} on {device.host}"
    for name, rate, origin in (
        ("P", device.prefill, device.prefill_from),
        ("R", device.decode, device.decode_from),
    ):
        text += f", {name} {measure(Measure(rate, 'tokens/s'))} ({origin})" if rate > 0 else f", {name} {NONE}"
    text += f", width {device.width:.1f}"
    return text if device.present > 0.995 else f"{text}, there for {100 * device.present:.0f} % of the run"


def _causes(page: _Page, causes: Causes) -> None:
    page.section("Missing seconds")
    page.fact("missing", f"{seconds(causes.gap)} = makespan - bound")
    held = {name: getattr(causes, name) for name in NAMES}
    indent = max(map(len, NAMES.values())) + 3
    for name in sorted(held, key=held.__getitem__, reverse=True):
        if held[name] > max(0.0005 * causes.gap, INSTANT):
            room = page.width - indent - CELL - 8
            bar = page.bar(held[name] / causes.gap, room)
            page.lines.append(
                f"  {NAMES[name]:<{indent - 2}}{seconds(held[name]):>{CELL}} "
                f"{100 * held[name] / causes.gap:3.0f} % {bar}".rstrip()
            )
    if causes.unavoidable > max(0.0005 * causes.gap, INSTANT):
        page.text(f"another {seconds(causes.unavoidable)} of idle slots are in the bound as well", hang=2)


def _audit(page: _Page, certificate: Certificate) -> None:
    seen = certificate.audit
    page.section("Audit")
    page.fact("verdict", seen.verdict)
    page.fact("asked for", f"{seen.width_asked} at the same time")
    page.fact("overlap", _or_reason(seen.overlap))
    if seen.width_mean.value is None or seen.width_max.value is None:
        page.fact("batch width", f"{NONE}: {seen.width_mean.reason}")
    else:
        page.fact("batch width", f"{seen.width_mean.value:.2f} on average, {seen.width_max.value:.0f} at most")
    page.fact("in flight", f"{seen.most_in_flight} at most; over time, from the start to {_end(seen.in_flight)}:")
    drawn = page.sparkline(seen.in_flight, page.width - 2)
    if drawn:
        page.lines.append(f"  {drawn}".rstrip())


def _advice(page: _Page, certificate: Certificate) -> None:
    if certificate.advice:
        page.section("What to do")
    for advice in certificate.advice:
        page.text(f"- {advice.text}", hang=2)
        page.text(f"  because {'; '.join(advice.evidence)}", hang=4)


def _end(series: Series) -> str:
    return seconds(series.step * len(series.values))


def _or_reason(shown: Measure) -> str:
    return f"{NONE}: {shown.reason}" if shown.value is None else f"{figure(shown.value)} {shown.unit}".rstrip()


def _resample(values: tuple[float, ...], room: int) -> list[float]:
    """Means over at most `room` stretches of nearly equal length."""
    count = min(room, len(values))
    edges = [place * len(values) // count for place in range(count + 1)] if count else [0]
    return [sum(values[low:high]) / (high - low) for low, high in pairwise(edges)]


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)

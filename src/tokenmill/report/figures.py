"""Every figure of a certificate under its name: what tables, CSV and comparisons are made of."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from tokenmill.report.causes import NAMES
from tokenmill.report.certificate import Certificate
from tokenmill.report.measure import Measure, Spread
from tokenmill.report.numbers import measure


class Figure(Struct, frozen=True, kw_only=True):
    """A figure with its definition; `name` is the path to it in the JSON, `label` how people call it."""

    name: str
    label: str
    shown: Measure
    definition: str
    is_count: bool = False
    defined_as: str = ""

    @property
    def text(self) -> str:
        return f"{self.shown.value:,.0f}" if self.is_count else measure(self.shown)

    @property
    def key(self) -> str:
        """The name under which the definition is kept."""
        return self.defined_as or self.name.split(".")[-1]


class Group(Struct, frozen=True, kw_only=True):
    """Figures that stand together."""

    title: str
    figures: tuple[Figure, ...]


#: Figures that are plain values or measures: group, path, label.
_PLAIN = (
    ("Work", "scope.rows", "rows", "rows"),
    ("Work", "scope.answered", "answered", "rows"),
    ("Work", "scope.attempts", "attempts", ""),
    ("Work", "scope.retries", "attempts without an answer", ""),
    ("Work", "scope.sessions", "sessions", ""),
    ("Work", "scope.nodes", "nodes", ""),
    ("Work", "scope.slots", "slots", ""),
    ("Work", "metrics.prompt_tokens", "tokens read", "tokens"),
    ("Work", "metrics.output_tokens", "tokens written", "tokens"),
    ("Time", "metrics.makespan", "makespan", ""),
    ("Time", "metrics.makespan_without_loading", "without loading", ""),
    ("Time", "metrics.requests_per_second", "throughput", ""),
    ("Time", "metrics.output_tokens_per_second", "output", ""),
    ("Bound", "bound.bound", "lower bound", ""),
    ("Bound", "bound.longest", "longest answer alone", ""),
    ("Bound", "bound.prefill", "reading the prompts", ""),
    ("Bound", "bound.decode", "writing the output", ""),
    ("Bound", "bound.ratio", "ratio", ""),
    ("Bound", "bound.single_stream", "best single stream", ""),
    ("Audit", "audit.width_asked", "asked for at once", ""),
    ("Audit", "audit.most_in_flight", "most in flight", ""),
    ("Audit", "audit.overlap", "overlap", ""),
    ("Audit", "audit.width_mean", "mean batch width", ""),
    ("Audit", "audit.width_max", "largest batch width", ""),
    ("Audit", "audit.work_waiting", "time with work waiting", ""),
)
#: Those of a data set: path, label, unit.
_DATA_SET = (
    ("data_set.input_rows", "input rows", "rows"),
    ("data_set.success_rate", "success rate", ""),
    ("data_set.rounds_mean", "mean rounds", ""),
    ("data_set.accepted", "accepted items", "items"),
    ("data_set.tokens_per_accepted", "tokens per accepted item", ""),
    ("data_set.joules_per_accepted", "joules per accepted item", ""),
    ("data_set.generation", "generation", ""),
    ("data_set.judging", "judging", ""),
    ("data_set.judging_while_generating", "judging while generating", ""),
)
#: Of each of its stages: field, label.
_STAGE = (("prompts", "prompts"), ("items", "items"), ("passed", "passed"), ("stage_yield", "yield"), ("busy", "time"))
_SPREADS = {"ttft": "TTFT", "itl": "ITL", "tpot": "TPOT", "latency": "latency", "wait": "wait"}
_CELLS = ("mean", "p50", "p95", "p99", "largest")


def figures(certificate: Certificate) -> tuple[Group, ...]:
    """The plain figures in groups, then the causes."""
    groups: dict[str, list[Figure]] = {}
    for title, path, label, unit in _PLAIN:
        groups.setdefault(title, []).append(_figure(certificate, path, label, *_find(certificate, path, unit)))
    if certificate.data_set is not None:
        groups["Data set"] = list(_of_data_set(certificate))
    if (why := certificate.causes) is not None:
        names = {"gap": "missing"} | NAMES | {"unavoidable": "idle in the bound"}
        groups["Missing seconds"] = [
            _figure(certificate, f"causes.{name}", label, Measure(getattr(why, name), "s"))
            for name, label in names.items()
        ]
    return tuple(Group(title=title, figures=tuple(found)) for title, found in groups.items())


def _of_data_set(certificate: Certificate) -> Iterator[Figure]:
    found = certificate.data_set
    assert found is not None
    for path, label, unit in _DATA_SET:
        yield _figure(certificate, path, label, *_find(certificate, path, unit))
    for outcome, count in found.outcomes.items():
        yield _named(certificate, f"outcomes.{outcome}", f"rows: {outcome}", Measure(count, "rows"), "outcomes")
    for number, count in found.rounds.items():
        yield _named(certificate, f"rounds.{number}", f"rows of {number} rounds", Measure(count, "rows"), "rounds")
    for stage in found.stages:
        for name, label in _STAGE:
            value = getattr(stage, name)
            shown = value if isinstance(value, Measure) else Measure(value, "")
            yield _named(certificate, f"stages.{stage.stage}.{name}", f"{stage.stage}: {label}", shown, name)


def _named(certificate: Certificate, path: str, label: str, shown: Measure, defined_as: str) -> Figure:
    """A figure of the data set whose name in the JSON isn't that of its definition."""
    return Figure(
        name=f"data_set.{path}",
        label=label,
        shown=shown,
        definition=certificate.definitions[defined_as],
        is_count=shown.unit in ("", "rows") and shown.value is not None and isinstance(shown.value, int),
        defined_as=defined_as,
    )


def spreads(certificate: Certificate) -> Iterator[tuple[str, str, Spread]]:
    """(name, label, spread) of everything measured for each request."""
    for name, label in _SPREADS.items():
        yield name, label, getattr(certificate.metrics, name)


def everything(certificate: Certificate) -> Iterator[Figure]:
    """All figures one by one, percentiles included."""
    for group in figures(certificate):
        yield from group.figures
    for name, label, spread in spreads(certificate):
        own = certificate.definitions[name]
        for cell in _CELLS:
            definition = f"{own}; {certificate.definitions[cell]}"
            shown: Measure = getattr(spread, cell)
            yield Figure(name=f"metrics.{name}.{cell}", label=f"{label} {cell}", shown=shown, definition=definition)


def _figure(certificate: Certificate, path: str, label: str, shown: Measure, is_count: bool = False) -> Figure:
    definition = certificate.definitions[path.split(".")[-1]]
    return Figure(name=path, label=label, shown=shown, definition=definition, is_count=is_count)


def _find(certificate: Certificate, path: str, unit: str) -> tuple[Measure, bool]:
    """The figure at a path, and whether it is a count."""
    found: object = certificate
    for name in path.split("."):
        found = getattr(found, name)
    if isinstance(found, Measure):
        return found, False
    assert isinstance(found, int)
    return Measure(found, unit), True

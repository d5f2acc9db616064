"""The report of a run as one HTML file: how long, how close to the bound, why not faster, what to do; then the rest."""

from __future__ import annotations

from markupsafe import Markup
from msgspec import Struct

from tokenmill.report import page
from tokenmill.report.causes import NAMES
from tokenmill.report.certificate import Certificate
from tokenmill.report.charts import charts
from tokenmill.report.dossier import EXCERPT, Dossier
from tokenmill.report.figures import figures, spreads
from tokenmill.report.measure import Measure, Spread
from tokenmill.report.numbers import NONE, measure, seconds
from tokenmill.report.plots import FULL, Chart
from tokenmill.report.recommend import remedy
from tokenmill.report.spoken_resources import DEFINED, spoken
from tokenmill.report.svg import Sheet, inline
from tokenmill.report.visible import shortened

#: Charts that share the axis of time, beside each other.
OVER_TIME = ("in-flight", "batch-width", "throughput", "memory")


class Tile(Struct, frozen=True, kw_only=True):
    """One answer of the first screen: the question, the answer, what it rests on, and the name of its definition."""

    question: str
    answer: str
    detail: str
    definition: str
    is_text: bool = False


class Drawn(Struct, frozen=True, kw_only=True):
    """A chart as it stands on the page."""

    name: str
    title: str
    text: str
    is_full: bool
    svg: tuple[Markup, ...]


def html(dossier: Dossier) -> str:
    """The whole page. Draws with matplotlib."""
    sheet = Sheet()
    drawn = {chart.name: draw(chart, sheet) for chart in charts(dossier.picture)}
    return fill(dossier, drawn, sheet.css)


def fill(dossier: Dossier, drawn: dict[str, Drawn], css: str) -> str:
    """The page with these charts, whose styles are `css`."""
    certificate = dossier.certificate
    return page.render(
        "run.html",
        css,
        title=f"Run {dossier.run}",
        dossier=dossier,
        certificate=certificate,
        tiles=tiles(certificate),
        causes=cause_rows(certificate),
        charts=drawn,
        over_time=[drawn[name] for name in OVER_TIME if name in drawn],
        groups=figures(certificate),
        resources=resource_rows(certificate),
        spreads=[
            (name, label, [(measure(cell), cell.reason) for cell in cells(spread)])
            for name, label, spread in spreads(certificate)
        ],
        reasons=sorted({cell.reason for _, _, spread in spreads(certificate) for cell in cells(spread) if cell.reason}),
        failures=[
            (each, remedy(each.kind), shortened(each.custom_id, EXCERPT), shortened(each.message, EXCERPT))
            for each in dossier.failures
        ],
        slowest=[
            (each, shortened(each.custom_id, EXCERPT), seconds(each.latency), shortened(each.text, EXCERPT))
            for each in dossier.slowest
        ],
    )


def draw(chart: Chart, sheet: Sheet) -> Drawn:
    """A chart in both widths; the page shows the one that fits."""
    svg = tuple(Markup(inline(chart, sheet, narrow=narrow)) for narrow in (False, True))
    return Drawn(name=chart.name, title=chart.title, text=chart.text, is_full=chart.width == FULL, svg=svg)


def resource_rows(certificate: Certificate) -> list[tuple[str, str, str]]:
    """(label, name of its definition, what it is) of everything that was sampled; none if nothing was."""
    if certificate.resources is None:
        return []
    return [(label.strip(), DEFINED.get(label.strip(), ""), text) for label, text in spoken(certificate.resources)]


def cells(spread: Spread) -> tuple[Measure, ...]:
    """The columns of the table of request times."""
    return spread.mean, spread.p50, spread.p95, spread.p99, spread.largest


def tiles(certificate: Certificate) -> tuple[Tile, ...]:
    """How long, how close to the bound, why not faster, what to do."""
    bound, why = certificate.bound, certificate.causes
    makespan = certificate.metrics.makespan
    scope = certificate.scope
    how_long = Tile(
        question="How long?",
        answer=measure(makespan),
        detail=f"for {scope.answered:,} of {scope.rows:,} rows answered, "
        f"{measure(certificate.metrics.output_tokens_per_second)}",
        definition="makespan",
    )
    ratio = bound.ratio.value
    how_close = Tile(
        question="How close to the bound?",
        answer=NONE if ratio is None else f"{100 * ratio:.0f} %",
        detail=bound.ratio.reason if ratio is None else f"the bound is {measure(bound.bound)}",
        definition="ratio",
    )
    return how_long, how_close, _why(certificate), _what(certificate, "" if why is None else why.largest)


def _why(certificate: Certificate) -> Tile:
    why = certificate.causes
    if why is None or not why.largest:
        detail = certificate.bound.bound.reason if why is None else "no avoidable cause is worth 1 % of the run"
        return Tile(
            question="Why not faster?", answer=NONE if why is None else "nothing", detail=detail, definition="gap"
        )
    lost, makespan = getattr(why, why.largest), certificate.metrics.makespan.value or 1.0
    return Tile(
        question="Why not faster?",
        answer=NAMES[why.largest],
        detail=f"{seconds(lost)}, {100 * lost / makespan:.0f} % of the run",
        definition=why.largest,
    )


def _what(certificate: Certificate, largest: str) -> Tile:
    """The advice on the largest cause; failures come first where nothing was answered."""
    advice = certificate.advice
    chosen = next((each for each in advice if each.name == largest), advice[0] if advice else None)
    if advice and not certificate.scope.answered:
        chosen = advice[0]
    return Tile(
        question="What to do?",
        answer=chosen.text if chosen else "Nothing: the run was as fast as it could be.",
        detail="",
        definition="",
        is_text=True,
    )


def cause_rows(certificate: Certificate) -> list[tuple[str, str, str, str]]:
    """(key, label, seconds, share of the gap) of every cause, largest first."""
    why = certificate.causes
    if why is None:
        return []
    held = {name: float(getattr(why, name)) for name in NAMES}
    shares = {name: 100 * value / why.gap if why.gap > 0 else 0.0 for name, value in held.items()}
    return [
        (name, NAMES[name], seconds(held[name]), f"{shares[name]:.0f} %")
        for name in sorted(held, key=lambda each: -held[each])
    ]

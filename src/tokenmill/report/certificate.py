"""The certificate of a run: what it took, what it could have taken, and where the difference went."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from tokenmill.event import Attempt
from tokenmill.report.audit import SEQUENTIAL, Audit, audit
from tokenmill.report.bound import UNKNOWN, Bound, Judge, devices
from tokenmill.report.causes import NAMES, Causes, causes
from tokenmill.report.data_set import DataSet
from tokenmill.report.definitions import DEFINITIONS
from tokenmill.report.facts import DevicePace, RunFacts
from tokenmill.report.metrics import Metrics, metrics
from tokenmill.report.numbers import seconds
from tokenmill.report.presence import presence
from tokenmill.report.rates import reading, writing
from tokenmill.report.recommend import Advice, Seen, advise
from tokenmill.report.resource_definitions import RESOURCE_DEFINITIONS
from tokenmill.report.resources import Resources, resources
from tokenmill.report.states import States, states
from tokenmill.report.timeline import ANSWERED, Timeline, collect


class Scope(Struct, frozen=True, kw_only=True):
    """What the certificate is about."""

    rows: int
    answered: int
    failed: dict[str, int]
    attempts: int
    retries: int
    sessions: int
    nodes: int
    slots: int
    models: tuple[str, ...]


class Certificate(Struct, frozen=True, kw_only=True):
    """Everything a run's certificate says; `verdict` in sentences, the rest in figures.

    `causes` is None where there is no bound. `advice` is what to do, with its evidence. `paces` are what this run
    measured of its devices, to be stored. `resources` is None for a run whose record has none, as older ones, and
    `data_set` for one without a recipe.
    """

    scope: Scope
    metrics: Metrics
    bound: Bound
    states: States
    causes: Causes | None
    audit: Audit
    verdict: tuple[str, ...]
    advice: tuple[Advice, ...] = ()
    resources: Resources | None = None
    data_set: DataSet | None = None
    paces: tuple[DevicePace, ...]
    definitions: dict[str, str]


def certify(facts: RunFacts, attempts: Iterable[Attempt]) -> Certificate:
    """Judges a run. The attempts are read once, in any order; order of dispatch costs least."""
    assert facts.sessions, "a run has at least one session"
    return judge(collect(facts, attempts))


def judge(timeline: Timeline) -> Certificate:
    """Judges a run whose attempts are collected."""
    facts = timeline.facts
    there = presence(timeline)
    group = devices(facts)
    wrote = writing(timeline, group.of_node)
    known = Judge(timeline, there, group, reading(timeline, group.of_node), wrote)
    bound, spent = known.bound(), states(timeline, there)
    why, seen = causes(spent, bound, timeline.makespan), audit(timeline, wrote, spent)
    figures = metrics(timeline, spent)
    return Certificate(
        scope=_scope(timeline),
        metrics=figures,
        bound=bound,
        states=spent,
        causes=why,
        audit=seen,
        verdict=_sentences(bound, why, seen),
        advice=advise(Seen(facts=facts, metrics=figures, bound=bound, causes=why, audit=seen)),
        resources=resources(
            facts.footprints,
            sessions=len(facts.sessions),
            tokens=figures.output_tokens,
            answers=facts.answered,
        ),
        paces=known.measured(),
        definitions=DEFINITIONS | RESOURCE_DEFINITIONS,
    )


def _scope(timeline: Timeline) -> Scope:
    facts = timeline.facts
    return Scope(
        rows=facts.rows_total,
        answered=facts.answered,
        failed=facts.failed,
        attempts=len(timeline),
        retries=len(timeline) - timeline.outcome.count(ANSWERED),
        sessions=len(facts.sessions),
        nodes=len(facts.nodes),
        slots=sum(node.slots for node in facts.nodes),
        models=tuple(dict.fromkeys(node.model for node in facts.nodes)),
    )


def _sentences(bound: Bound, why: Causes | None, seen: Audit) -> tuple[str, ...]:
    found = [_ratio_sentence(bound, why)]
    found.append(f"{seen.verdict}: {seen.reason}" if seen.reason else seen.verdict)
    if seen.verdict == SEQUENTIAL:
        found.append("requests were sent together but answered one by one")
    return tuple(found)


def _ratio_sentence(bound: Bound, why: Causes | None) -> str:
    ratio = bound.ratio.value
    if ratio is None:
        return UNKNOWN if bound.ratio.reason == UNKNOWN else f"no bound: {bound.bound.reason or bound.ratio.reason}"
    start = f"ran at {ratio:.2f} of the bound"
    if why is None or not why.largest:
        return f"{start}; no avoidable cause is worth 1 % of the run"
    return f"{start}; the largest avoidable cause is {NAMES[why.largest]}, {seconds(getattr(why, why.largest))}"

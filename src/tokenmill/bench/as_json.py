"""A sweep as JSON, and the JSON Schema of it, made from the structs themselves with every definition in it."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from tokenmill.bench.columns import DEFINITIONS, points_of
from tokenmill.bench.compare import Changes
from tokenmill.bench.sweep import Results
from tokenmill.report.schema import schema_of
from tokenmill.stats.target import Judged, judge_all, parse


class Report(Struct, frozen=True, kw_only=True):
    """What was measured, what came of the targets, and what the figures mean by their names."""

    results: Results
    targets: tuple[Judged, ...]
    definitions: dict[str, str]


def report_of(results: Results) -> Report:
    """Judges the targets that the sweep was begun with."""
    targets = parse(results.plan.targets, list(DEFINITIONS))
    return Report(results=results, targets=judge_all(targets, points_of(results.rows)), definitions=DEFINITIONS)


def encode(report: Report) -> bytes:
    """The whole report, indented, with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def encode_schema() -> bytes:
    """The schema of a report, and of a comparison of two sweeps."""
    title = "What 'tokenmill bench show --json' prints: a sweep; or 'tokenmill bench compare --json': two of them"
    return schema_of((Report, Changes), title, DEFINITIONS)

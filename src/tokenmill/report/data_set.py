"""What a run with a recipe made, in figures: rows that succeeded, rounds, yield of stages, times and costs."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from tokenmill.report.measure import Measure
from tokenmill.report.numbers import NONE, figure, measure

#: Checks that are named in a line, those that rejected most.
SHOWN_CHECKS = 6


class StageFigures(Struct, frozen=True, kw_only=True):
    """One stage of the recipe; `accepted` are items that it gave to the data set, or for a judge its verdicts."""

    stage: str
    prompts: int
    answered: int
    items: int
    passed: int
    accepted: int
    stage_yield: Measure
    busy: Measure


class DataSet(Struct, frozen=True, kw_only=True):
    """The data set of a run. `outcomes`: input rows by how their stories ended; `rounds`: input rows by rounds."""

    recipe: str
    input_rows: int
    outcomes: dict[str, int]
    success_rate: Measure
    rounds: dict[int, int]
    rounds_mean: Measure
    accepted: int
    stages: tuple[StageFigures, ...]
    rejected_by: dict[str, int]
    generation: Measure
    judging: Measure
    judging_while_generating: Measure
    tokens_per_accepted: Measure
    joules_per_accepted: Measure


DATA_SET_DEFINITIONS = {
    "input_rows": "rows of the input, each with a story of prompts of its own",
    "outcomes": "input rows by how their stories ended: success (every target met), short (some missed after the last "
    "round), failed (nothing could be judged), unfinished",
    "success_rate": "input rows that ended with success / input rows",
    "rounds": "input rows by the most rounds that a stage took for them",
    "rounds_mean": "mean of these rounds over the input rows",
    "prompts": "prompts of the stage, those of later rounds included",
    "items": "what was read from the answers of the stage",
    "passed": "items that passed the checks of the stage",
    "accepted": "items that are in the data set; of a stage that judges, verdicts that counted",
    "stage_yield": "passed / items",
    "busy": "time in which at least one prompt of the stage was in flight",
    "rejected_by": "items that were rejected, by each check that they failed",
    "generation": "time in which at least one prompt was in flight",
    "judging": "time in which answers were parsed and validated",
    "judging_while_generating": "the part of the judging during which prompts were in flight / judging",
    "tokens_per_accepted": "prompt and output tokens of all attempts / accepted items",
    "joules_per_accepted": "energy of the machine's measured parts / accepted items",
}

#: The definitions of what is shown as text, by label.
DEFINED = {
    "success": "success_rate",
    "rounds": "rounds",
    "accepted": "accepted",
    "yield": "stage_yield",
    "rejected": "rejected_by",
    "generation": "generation",
    "judging": "judging",
}


def spoken(found: DataSet) -> Iterator[tuple[str, str]]:
    """(label, what it is) for every line."""
    others = "".join(f", {count:,} {name}" for name, count in found.outcomes.items() if name != "success")
    succeeded = found.outcomes.get("success", 0)
    yield "success", f"{percent(found.success_rate)}: {succeeded:,} of {_rows(found.input_rows)}{others}"
    yield "rounds", ", ".join(f"{_rows(count)} took {number}" for number, count in found.rounds.items()) or NONE
    yield "accepted", f"{found.accepted:,} items, each {_cost(found)}"
    for stage in found.stages:
        yield "stage", _stage(stage)
    if found.rejected_by:
        yield "rejected", ", ".join(f"{name} {count:,}" for name, count in [*found.rejected_by.items()][:SHOWN_CHECKS])
    yield "generation", measure(found.generation)
    share = found.judging_while_generating
    meanwhile = f", {percent(share)} of it while answers were generated" if share.value is not None else ""
    yield "judging", f"{measure(found.judging)}{meanwhile}"


def percent(share: Measure) -> str:
    return NONE if share.value is None else f"{100 * share.value:.1f} %"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _stage(stage: StageFigures) -> str:
    passed = f"{stage.passed:,} of {stage.items:,} items passed (yield {percent(stage.stage_yield)})"
    return f"{stage.stage}: {stage.prompts:,} prompts in {measure(stage.busy)}; {passed}, {stage.accepted:,} accepted"


def _cost(found: DataSet) -> str:
    tokens, joules = found.tokens_per_accepted, found.joules_per_accepted
    spent = f"{figure(tokens.value)} tokens" if tokens.value is not None else f"{NONE} tokens ({tokens.reason})"
    if joules.value is None:  # the reason stands with the energy of the run
        return f"{spent} and {NONE} joules"
    return f"{spent} and {figure(joules.value)} J"

"""The card of a data set: what it holds, what was rejected and why, and what an accepted item cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tokenmill.driver.alike import near_words
from tokenmill.driver.overlap import Times, times_of
from tokenmill.driver.storyteller import Story
from tokenmill.pipeline import Recipe, Told
from tokenmill.pipeline.asking import opening
from tokenmill.pipeline.story import prompt_of, split
from tokenmill.record.folder import Manifest
from tokenmill.record.store import Record
from tokenmill.record.stories import Scored
from tokenmill.report.certificate import Certificate
from tokenmill.report.data_set import DataSet, StageFigures
from tokenmill.report.measure import Measure

#: Reasons of answers that gave no items, the most frequent ones.
MOST_REASONS = 20
#: The label of items that are in the data set.
ACCEPTED = "accepted"
NOTHING_ACCEPTED = "no item was accepted"


class Count:
    """What is counted while stories go by."""

    def __init__(self, recipe: Recipe | None) -> None:
        assert recipe is not None
        self.recipe = recipe
        self.judges = {stage.name for stage in recipe.stages if stage.judges}
        self.outcomes: Counter[str] = Counter()
        self.rounds: Counter[int] = Counter()
        self.stages: dict[str, Counter[str]] = {stage.name: Counter() for stage in recipe.stages}
        self.labels: Counter[tuple[str, str, str]] = Counter()
        self.rejections: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()
        self.odd: Counter[str] = Counter()
        self.accepted = 0

    def add(self, story: Story, told: Told, scores: dict[str, list[Scored]]) -> None:
        self.outcomes[told.outcome or "unfinished"] += 1
        self.rounds[told.rounds] += 1
        for key, prompt in story.asked.items():
            counted = self.stages[split(key)[1]]
            counted["prompts"] += 1
            counted["answered"] += prompt.text is not None
        for heard in story.heard.values():
            if heard.reason:
                self.unread[heard.reason] += 1
        for each in told.items:
            self.stages[each.stage]["items"] += 1
            self.stages[each.stage]["passed"] += each.item.passed
            self.labels[each.stage, each.item.role, each.label] += 1
            if each.label == ACCEPTED and each.stage not in self.judges:
                self.accepted += 1
                self.odd.update(filter(None, (story.asked[prompt_of(each.key)].flags or "").split(",")))
            if each.label in ("rejected", "best"):
                failed = [score.validator for score in scores.get(each.key, ()) if not score.passed]
                self.rejections.update(failed or ["a stage that judges"])


def figures_of(record: Record, count: Count, certificate: Certificate | None) -> DataSet:
    """What was counted and what the record says of times and costs, as figures of the run's certificate."""
    times = times_of(record, opening(count.recipe).stage)
    rows, turns = sum(count.outcomes.values()), sum(number * rows for number, rows in count.rounds.items())
    read, written, _, vain_read, vain_written = record.tokens()
    tokens = read + vain_read + written + vain_written
    energy = certificate.resources.energy if certificate is not None and certificate.resources is not None else None
    joules = Measure(None, "J", "not measured") if energy is None else energy
    each = Measure(None, "J/item", joules.reason or "not measured")
    if joules.value is not None:
        each = _share(joules.value, count.accepted, "J/item", NOTHING_ACCEPTED)
    return DataSet(
        recipe=count.recipe.name,
        input_rows=rows,
        outcomes=dict(sorted(count.outcomes.items())),
        success_rate=_share(count.outcomes["success"], rows, "", "there are no rows"),
        rounds=dict(sorted(count.rounds.items())),
        rounds_mean=_share(turns, rows, "", "there are no rows"),
        accepted=count.accepted,
        stages=tuple(_stage(name, counted, count, times) for name, counted in count.stages.items()),
        rejected_by=dict(count.rejections.most_common()),
        generation=Measure(round(times.generating, 6), "s"),
        judging=Measure(round(times.judging, 6), "s"),
        judging_while_generating=_share(times.both, times.judging, "", "nothing was judged"),
        tokens_per_accepted=_share(tokens, count.accepted, "tokens/item", NOTHING_ACCEPTED),
        joules_per_accepted=each,
    )


def _stage(name: str, counted: Counter[str], count: Count, times: Times) -> StageFigures:
    return StageFigures(
        stage=name,
        prompts=counted["prompts"],
        answered=counted["answered"],
        items=counted["items"],
        passed=counted["passed"],
        accepted=sum(
            number for (stage, _, label), number in count.labels.items() if (stage, label) == (name, ACCEPTED)
        ),
        stage_yield=_share(counted["passed"], counted["items"], "", "no answer had items"),
        busy=Measure(round(times.by_stage.get(name, 0.0), 6), "s"),
    )


def _share(part: float, whole: float, unit: str, reason: str) -> Measure:
    return Measure(round(part / whole, 6), unit) if whole else Measure(None, unit, reason)


def card_of(record: Record, manifest: Manifest, count: Count, certificate: Certificate | None) -> dict[str, Any]:
    """The card as plain data; `seconds` of a stage are those with one of its prompts in flight."""
    figures = figures_of(record, count, certificate)
    read, written, _, vain_read, vain_written = record.tokens()
    energy = certificate.resources.energy if certificate is not None and certificate.resources is not None else None
    return {
        "recipe": count.recipe.name,
        "about": count.recipe.about,
        "run": manifest.run_id,
        "model": manifest.model,
        "model_digest": manifest.model_digest,
        "embedding": count.recipe.embedding,
        "seed": manifest.seed,
        "rows": figures.input_rows,
        "skipped": manifest.input.skipped,
        "outcomes": figures.outcomes,
        "success_rate": figures.success_rate.value,
        "rounds": {str(number): times for number, times in figures.rounds.items()},
        "accepted": count.accepted,
        "stages": {stage.stage: _of_stage(stage, count) for stage in figures.stages},
        "rejected_by": figures.rejected_by,
        "accepted_of_odd_answers": dict(count.odd.most_common()),
        "answers_at_fault": dict(count.unread.most_common(MOST_REASONS)),
        "tokens": {"prompt": read + vain_read, "output": written + vain_written},
        "tokens_per_accepted": figures.tokens_per_accepted.value,
        "joules": energy.value if energy is not None else None,
        "joules_reason": figures.joules_per_accepted.reason,
        "joules_per_accepted": figures.joules_per_accepted.value,
        "time": _times(record, figures),
    }


def _of_stage(stage: StageFigures, count: Count) -> dict[str, Any]:
    labels: dict[str, dict[str, int]] = {}
    for (name, role, label), number in sorted(count.labels.items()):
        if name == stage.stage:
            labels.setdefault(role, {})[label] = number
    named = {"prompts": stage.prompts, "answered": stage.answered, "items": stage.items, "passed": stage.passed}
    return {**named, "yield": stage.stage_yield.value, "seconds": stage.busy.value, "labels": labels}


def _times(record: Record, figures: DataSet) -> dict[str, Any]:
    return {
        "seconds": round(sum(each.ended or 0.0 for each in record.sessions()), 3),
        "generating": round(figures.generation.value or 0.0, 3),
        "judging": round(figures.judging.value or 0.0, 3),
        "judging_while_generating": figures.judging_while_generating.value,
    }


def markdown(card: dict[str, Any]) -> str:
    """The card for people."""
    lines = [f"# Data set: {card['recipe']}", "", card["about"] or "", ""]
    facts = {
        "run": card["run"],
        "model": f"{card['model']} ({card['model_digest'][:16]})",
        "embedding": card["embedding"] or "none",
        "rows": f"{card['rows']:,}" + (f", {card['skipped']:,} dialogs skipped" if card["skipped"] else ""),
        "success rate": _percent(card["success_rate"]),
        "accepted items": f"{card['accepted']:,}",
        "near-duplicates": near_words(card["near_duplicates"]),
        "tokens per accepted item": _number(card["tokens_per_accepted"]),
        "joules per accepted item": _number(card["joules_per_accepted"]) + _why(card["joules_reason"]),
        "time": f"{card['time']['seconds']} s",
        "generating": f"{card['time']['generating']} s",
        "judging": f"{card['time']['judging']} s, {_percent(card['time']['judging_while_generating'])} of it while "
        "answers were generated",
    }
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in facts.items()), ""]
    lines += _table("Rows by outcome", "outcome", card["outcomes"])
    lines += _table("Rows by rounds", "rounds", card["rounds"])
    lines += ["## Stages", "", *(f"| {' | '.join(cells)} |" for cells in _stages(card["stages"]))]
    lines += ["", *_table("Rejected by", "check", card["rejected_by"])]
    lines += _table("Accepted of odd answers", "oddity", card["accepted_of_odd_answers"])
    lines += _table("Answers at fault", "reason", card["answers_at_fault"])
    return "\n".join(lines)


def _stages(stages: dict[str, dict[str, Any]]) -> Iterator[list[str]]:
    """The cells of each line of the table of stages; seconds are those with a prompt of the stage in flight."""
    heads = ["stage", "prompts", "answered", "items", "passed", "yield", "accepted", "seconds"]
    yield heads
    yield ["---"] * len(heads)
    for name, stage in stages.items():
        counted = [f"{stage[each]:,}" for each in ("prompts", "answered", "items", "passed")]
        accepted = sum(labels.get(ACCEPTED, 0) for labels in stage["labels"].values())
        yield [name, *counted, _percent(stage["yield"]), f"{accepted:,}", f"{stage['seconds']:,.1f}"]


def _table(title: str, head: str, counts: dict[str, int]) -> list[str]:
    if not counts:
        return []
    rows = [f"| {_cell(name)} | {number:,} |" for name, number in counts.items()]
    return [f"## {title}", "", f"| {head} | count |", "|---|---|", *rows, ""]


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{share:.1%}"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.1f}"


def _why(reason: str) -> str:
    return f" ({reason})" if reason else ""

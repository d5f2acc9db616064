"""The card of a data set: what it holds, what was rejected and why, and what an accepted item cost."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tokenmill.driver.overlap import Times, times_of
from tokenmill.driver.storyteller import Story
from tokenmill.pipeline import Recipe, Told
from tokenmill.pipeline.asking import opening
from tokenmill.pipeline.story import split
from tokenmill.record.folder import Manifest
from tokenmill.record.store import Record
from tokenmill.record.stories import Scored
from tokenmill.report.certificate import Certificate

#: Reasons of answers that gave no items, the most frequent ones.
MOST_REASONS = 20


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
            self.accepted += each.label == "accepted" and each.stage not in self.judges
            if each.label in ("rejected", "best"):
                failed = [score.validator for score in scores.get(each.key, ()) if not score.passed]
                self.rejections.update(failed or ["a stage that judges"])


def card_of(record: Record, manifest: Manifest, count: Count, certificate: Certificate | None) -> dict[str, Any]:
    """The card as plain data."""
    rows = sum(count.outcomes.values())
    read, written, _, vain_read, vain_written = record.tokens()
    tokens = {"prompt": read + vain_read, "output": written + vain_written}
    energy = certificate.resources.energy if certificate is not None and certificate.resources is not None else None
    joules = energy.value if energy is not None else None
    return {
        "recipe": count.recipe.name,
        "about": count.recipe.about,
        "run": manifest.run_id,
        "model": manifest.model,
        "model_digest": manifest.model_digest,
        "embedding": count.recipe.embedding,
        "seed": manifest.seed,
        "rows": rows,
        "skipped": manifest.input.skipped,
        "outcomes": dict(sorted(count.outcomes.items())),
        "success_rate": _share(count.outcomes["success"], rows),
        "rounds": {str(number): times for number, times in sorted(count.rounds.items())},
        "accepted": count.accepted,
        "stages": {name: _stage(name, counted, count) for name, counted in count.stages.items()},
        "rejected_by": dict(count.rejections.most_common()),
        "answers_at_fault": dict(count.unread.most_common(MOST_REASONS)),
        "tokens": tokens,
        "tokens_per_accepted": _share(sum(tokens.values()), count.accepted),
        "joules": joules,
        "joules_reason": "" if joules is not None else getattr(energy, "reason", "") or "not measured",
        "joules_per_accepted": None if joules is None else _share(joules, count.accepted),
        "time": _times(times_of(record, opening(count.recipe).stage)),
    }


def _stage(name: str, counted: Counter[str], count: Count) -> dict[str, Any]:
    labels: dict[str, dict[str, int]] = {}
    for (stage, role, label), number in sorted(count.labels.items()):
        if stage == name:
            labels.setdefault(role, {})[label] = number
    named = {each: counted[each] for each in ("prompts", "answered", "items", "passed")}
    return {**named, "yield": _share(counted["passed"], counted["items"]), "labels": labels}


def _times(times: Times) -> dict[str, Any]:
    return {
        "seconds": round(times.makespan, 3),
        "generating": round(times.generating, 3),
        "judging": round(times.judging, 3),
        "judging_while_generating": _share(times.both, times.judging),
        "by_stage": {name: round(seconds, 3) for name, seconds in sorted(times.by_stage.items())},
    }


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 6) if whole else None


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
        "tokens per accepted item": _number(card["tokens_per_accepted"]),
        "joules per accepted item": _number(card["joules_per_accepted"]) + _why(card["joules_reason"]),
        "time": f"{card['time']['seconds']} s",
        "judging": f"{card['time']['judging']} s, {_percent(card['time']['judging_while_generating'])} of it while "
        "answers were generated",
    }
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in facts.items()), ""]
    lines += _table("Rows by outcome", "outcome", card["outcomes"])
    lines += _table("Rows by rounds", "rounds", card["rounds"])
    lines += ["## Stages", "", "| stage | prompts | answered | items | passed | yield |", "|---|---|---|---|---|---|"]
    for name, stage in card["stages"].items():
        cells = [stage[each] for each in ("prompts", "answered", "items", "passed")]
        lines.append(f"| {name} | {' | '.join(f'{cell:,}' for cell in cells)} | {_percent(stage['yield'])} |")
    lines += ["", *_table("Rejected by", "check", card["rejected_by"])]
    lines += _table("Answers at fault", "reason", card["answers_at_fault"])
    return "\n".join(lines)


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

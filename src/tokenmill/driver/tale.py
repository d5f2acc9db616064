"""The whole story of one input row, as it is told to people and to programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from tokenmill.driver.data_set import Scores, ended, scores_of
from tokenmill.driver.options import Options
from tokenmill.driver.prepare import RECORD, located
from tokenmill.driver.session import options_of
from tokenmill.driver.source import RowSource
from tokenmill.driver.storyteller import Story, Storyteller
from tokenmill.pipeline import Told
from tokenmill.pipeline.story import Kept, prompt_of, split
from tokenmill.record.folder import Manifest
from tokenmill.record.store import Record
from tokenmill.record.stories import Prompt, Stories
from tokenmill.report.dossier import EXCERPT
from tokenmill.report.visible import shortened
from tokenmill.request import Request
from tokenmill.workload import Reader


class Tale(Struct, frozen=True):
    """A story with its prompts, what was heard, and the scores of its items; `texts`: of the prompts that were sent."""

    story: Story
    told: Told
    scores: Scores
    texts: dict[str, str] = {}


def tale_of(folder: Path, manifest: Manifest, row: int) -> Tale:
    """The tale of the input row that this row belongs to."""
    options: Options = options_of(manifest)
    recipe = options.pipeline
    assert recipe is not None
    stories, record = Stories(folder / RECORD), Record(folder / RECORD)
    with Reader(options.asked, located(manifest.input, folder)) as reader:
        teller = Storyteller(folder / RECORD, reader, recipe, options.workload, manifest.input.kind, None)
        try:
            story = teller.read(stories.root_of(row))
            source = RowSource(record, reader, options)
            sent = {key: prompt.row for key, prompt in story.asked.items() if record.attempts_of(prompt.row)}
            texts = {key: _text(source.fetch(row)) for key, row in sent.items()}
            return Tale(story, ended(stories, story, teller.told(story)), scores_of(stories, story), texts)
        finally:
            record.close()
            teller.close()
            stories.close()


def lines(tale: Tale) -> Iterator[str]:
    """The tale, line by line: each prompt in the order of its rounds, with its items, their scores and labels."""
    told = tale.told
    outcome = told.outcome or "goes on"
    yield f"{tale.story.custom_id}: {outcome} after {_count(told.rounds, 'round')}"
    yield from (f"  {reason}" for reason in told.reasons)
    items: dict[str, list[Kept]] = {}
    for each in told.items:
        items.setdefault(prompt_of(each.key), []).append(each)
    for key, prompt in sorted(tale.story.asked.items(), key=lambda pair: pair[1].row):
        about, stage, turn, sample = split(key)
        place = f" about {about}" if about else ""
        yield f"  {key}: stage {stage}, round {turn}, sample {sample}{place}; {_answer(prompt)}"
        if key in tale.texts:
            yield f"    asked: {shortened(tale.texts[key], EXCERPT)}"
        heard = tale.story.heard.get(key)
        if heard is not None and (heard.broken or heard.reason):
            yield f"    {heard.broken or heard.reason}"
        if prompt.text is not None and not items.get(key):  # else the items are what it said
            yield f"    it said: {shortened(prompt.text, EXCERPT)}"
        for each in items.get(key, []):
            yield from _item(each, tale.scores)


def data(tale: Tale) -> dict[str, Any]:
    """The tale for programs."""
    return {
        "id": tale.story.custom_id,
        "outcome": tale.told.outcome,
        "rounds": tale.told.rounds,
        "reasons": tale.told.reasons,
        "input": tale.story.fields,
        "prompts": [
            {
                "key": key,
                "row": prompt.row,
                "prompt": tale.texts.get(key),
                "answer": prompt.text,
                "failure": prompt.kind,
                "heard": heard,
            }
            for key, prompt in tale.story.asked.items()
            for heard in [tale.story.heard.get(key)]
        ],
        "items": [{"item": each, "scores": tale.scores.get(each.key, [])} for each in tale.told.items],
        "asks": [ask.key for ask in tale.told.asks],
    }


def _text(request: Request) -> str:
    """What was asked, the system message first."""
    return request.prompt if request.prompt is not None else "\n".join(each.content for each in request.messages)


def _answer(prompt: Prompt) -> str:
    if prompt.text is not None:
        return f"answered with {_count(len(prompt.text), 'character')}"
    return f"failed: {prompt.kind}, {prompt.message}" if prompt.kind is not None else "not answered yet"


def _item(each: Kept, scores: Scores) -> Iterator[str]:
    value = f" {each.item.value:g}" if each.item.value is not None else ""
    yield f"    {each.label} {each.item.role}{value}: {each.item.text}"
    for score in scores.get(each.key, []):
        measured = "n/a" if score.value is None else f"{score.value:.4g}"
        yield f"      {score.validator} {measured}, {'passed' if score.passed else f'failed: {score.reason}'}"
    judged = [reason for reason in each.reasons if all(reason != score.reason for score in scores.get(each.key, []))]
    yield from (f"      {reason}" for reason in judged if each.item.passed)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

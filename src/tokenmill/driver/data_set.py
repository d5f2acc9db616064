"""A finished run with a recipe as a data set: its items with labels, what didn't make it, and a card that counts.

Items stand in the order of their input rows, and are a function of input, options and answers alone: they have no times
and no numbers of the record, so a run that was killed on its way gives the same bytes as one that wasn't.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Any

from msgspec.structs import asdict

from tokenmill.driver.alike import Alike
from tokenmill.driver.card import Count, card_of, markdown
from tokenmill.driver.data_form import Form, Lines, Parquet, Rows, Structure, beside, encoded, form_of
from tokenmill.driver.options import Options
from tokenmill.driver.storyteller import Story, Storyteller
from tokenmill.errors import StorageError
from tokenmill.pipeline import Recipe, Told
from tokenmill.pipeline.story import Kept, prompt_of
from tokenmill.record.atomic import whole_file
from tokenmill.record.folder import Manifest
from tokenmill.record.store import Record
from tokenmill.record.stories import Scored, Stories
from tokenmill.report.certificate import Certificate
from tokenmill.workload import Input, Reader
from tokenmill.workload.episodes import EPISODES, Episodes

#: Scores of the items of one story, by key.
Scores = dict[str, list[Scored]]


def write_data_set(
    record: Record,
    manifest: Manifest,
    options: Options,
    found: Input,
    path: Path,
    certificate: Certificate | None = None,
    chosen: str | None = None,
) -> int:
    """Writes the accepted items to `path` and the rest beside it; returns how many were accepted.

    The form of `path` is the one `chosen`, or that of its suffix; the rest are lines of JSON whatever it is.
    `NAME.rest.jsonl` has items that were rejected, spare, or the best that there was, and `NAME.missed.jsonl` the rows
    that didn't succeed, with the reasons. The card is `NAME.card.json` and `NAME.card.md`.
    Raises `StorageError` if a file can't be written.
    """
    count = Count(options.pipeline)
    form = form_of(path, count.recipe, chosen)
    try:
        with ExitStack() as opened:
            main, rest, missed = (
                opened.enter_context(whole_file(each)) for each in (path, beside(path, "rest"), beside(path, "missed"))
            )
            alike = opened.enter_context(Alike())
            written = _opened(form, main, count.recipe, record, options, found, opened)
            for story, told, scores in stories_of(record, options, found):
                count.add(story, told, scores)
                accepted = _write(story, told, scores, count, rest, missed)
                written.add(story.root, accepted)
                for each in accepted:
                    alike.add(each["stage"], each["role"], each["text"])
            written.close()
            near = alike.count()
        card = card_of(record, manifest, count, certificate) | {"near_duplicates": asdict(near)}
        for name, text in (("json", json.dumps(card, indent=1) + "\n"), ("md", markdown(card))):
            with whole_file(path.with_name(f"{path.stem}.card.{name}")) as file:
                file.write(text.encode())
    except OSError as error:
        raise StorageError(
            f"{path}: can't write ({error.strerror or error}); the items are safe in run {manifest.run_id}, "
            f"write them elsewhere with 'tokenmill export {manifest.run_id} -o FILE'"
        ) from error
    return count.accepted


def _opened(
    form: str, file: IO[bytes], recipe: Recipe, record: Record, options: Options, found: Input, opened: ExitStack
) -> Form:
    """What writes a form into a file."""
    if form == "jsonl":
        return Lines(file)
    if form == "parquet":
        return Parquet(file, recipe)
    if found.kind == EPISODES:

        def place(root: int) -> tuple[int, int]:
            at = record.place(root)
            return at.offset, at.length

        return Structure(file, recipe, opened.enter_context(closing(Episodes(Path(found.data.path), place))))
    reader = opened.enter_context(Reader(options.workload, found))

    def fields(root: int) -> dict[str, Any]:
        at = record.place(root)
        return reader.fields(at.offset, at.length, at.line)

    return Structure(file, recipe, Rows(fields))


def stories_of(record: Record, options: Options, found: Input) -> Iterator[tuple[Story, Told, Scores]]:
    """Every story, told from the record, in the order of the input."""
    recipe = options.pipeline
    assert recipe is not None
    with Reader(options.asked, found) as reader:
        stories = Stories(record.path)
        teller = Storyteller(record.path, reader, recipe, options.workload, found.kind, None)
        try:
            for root in stories.roots():
                story = teller.read(root)
                yield story, ended(stories, story, teller.told(story)), scores_of(stories, story)
        finally:
            teller.close()
            stories.close()


def ended(stories: Stories, story: Story, told: Told) -> Told:
    """The story as it was told when it ended: of a row that couldn't be asked at all, the record alone knows that."""
    end = stories.ended(story.root)
    if end is None:
        return told
    return Told(asks=(), items=told.items, outcome=end.outcome, rounds=end.rounds, reasons=end.reasons)  # type: ignore[arg-type]


def scores_of(stories: Stories, story: Story) -> Scores:
    """The scores of each item, by the item's key."""
    keys = {prompt.row: key for key, prompt in story.asked.items()}
    found: Scores = {}
    for score in stories.scores(story.root):
        found.setdefault(f"{keys[score.row]}#{score.number}", []).append(score)
    return found


def _write(
    story: Story, told: Told, scores: Scores, count: Count, rest: IO[bytes], missed: IO[bytes]
) -> list[dict[str, Any]]:
    """Writes what isn't accepted; returns what is."""
    verdicts: dict[str, dict[str, float | None]] = {}
    for each in told.items:
        if each.stage in count.judges:
            verdicts.setdefault(each.about, {})[each.stage] = each.item.value
    accepted = []
    for each in told.items:
        if each.stage not in count.judges:
            line = _line(story, told, each, scores.get(each.key, []), verdicts.get(each.key, {}))
            if each.label == "accepted":
                accepted.append(line)
            else:
                rest.write(encoded(line))
    if told.outcome != "success":
        reasons = list(told.reasons)
        missed.write(
            encoded({"id": story.custom_id, "outcome": told.outcome, "rounds": told.rounds, "reasons": reasons})
        )
    return accepted


def _line(
    story: Story, told: Told, each: Kept, scores: list[Scored], verdicts: dict[str, float | None]
) -> dict[str, Any]:
    values: dict[str, float | None] = {score.validator: score.value for score in scores} | verdicts
    flags = story.asked[prompt_of(each.key)].flags
    said: dict[str, Any] = {
        "id": story.custom_id,
        "item": each.key,
        "stage": each.stage,
        "role": each.item.role,
        "text": each.item.text,
        "label": each.label,
        "round": each.round,
        "outcome": told.outcome,
        "about": each.about or None,
        "data": each.item.data or None,
        "scores": values,
        "flags": flags.split(",") if flags else None,
        "reasons": list(each.reasons),
        "input": story.fields,
    }
    return {name: value for name, value in said.items() if value is not None}

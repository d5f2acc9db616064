"""Goes on with stories: from answers in the record to scores, new prompts and endings, as entries for the record.

A story is read from the record, told, and forgotten, so a hundred thousand of them take no memory. Whoever calls this
lets one batch of entries be written before it asks for the next: what is read here must hold all that was said before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tokenmill.driver.source import Body
from tokenmill.event import Arrived
from tokenmill.pipeline import Ask, Heard, Recipe, Told, tell
from tokenmill.pipeline.asking import Asking, opening, texts_of
from tokenmill.pipeline.judging import Judge, Judgement, Round
from tokenmill.pipeline.story import Judged, round_keys, split
from tokenmill.record.stories import Ended, Entry, Found, Prompt, Scored, Stories
from tokenmill.workload import Reader, predict
from tokenmill.workload.faults import RowFault
from tokenmill.workload.spec import Spec

#: Roles of what is no item: an answer that never came, one that couldn't be judged, a prompt that couldn't be written.
FAILED, BROKEN, UNWRITTEN = "failed", "broken", "unwritten"

#: A row that joins the run, and its values in the record.
_Birth: TypeAlias = tuple[Arrived, tuple[object, ...]]


class Batch(Struct):
    """What came of a batch of rows: entries that become durable together, the rows born of them, and stories ended."""

    entries: list[Entry]
    arrived: list[Arrived]
    ended: int = 0


class Story(Struct):
    """One story as the record has it. `asked` are its prompts by key; `reference` is that of no item in particular."""

    root: int
    custom_id: str
    fields: dict[str, Any]
    asked: dict[str, Prompt]
    heard: dict[str, Heard]
    has_ended: bool


class Storyteller:
    """Works on one thread. Without a `judge` it only reads, and writes opening prompts."""

    def __init__(self, path: Path, reader: Reader, recipe: Recipe, spec: Spec, kind: str, judge: Judge | None) -> None:
        self._stories = Stories(path)
        self._reader = reader
        self._recipe = recipe
        self._asking = Asking(recipe, spec, kind)
        self._judge = judge
        self._first = opening(recipe).key
        self._next_row = self._stories.next_row()
        #: Input rows that can't be asked at all, which is known before a session begins.
        self._refused = self._stories.refused() if judge is not None else set()

    def close(self) -> None:
        self._stories.close()

    def unjudged(self) -> list[int]:
        """Rows that were answered, or failed, and not judged: a session ended in between."""
        return self._stories.unjudged()

    def go_on(self, rows: Sequence[int], now: float) -> Batch:
        """Judges these rows as far as their rounds are complete, and goes on with their stories."""
        stories = [self.read(root) for root in dict.fromkeys(map(self._stories.root_of, rows))]
        batch = Batch([], [])
        open_rounds: list[tuple[Story, list[str]]] = []
        for story in stories:
            if story.has_ended:
                batch.entries += _late(story)
            else:
                open_rounds += [(story, keys) for keys in self._complete(story)]
        rounds: list[Round] = []
        for story, keys in open_rounds:
            made = self._round(story, keys)
            if isinstance(made, Round):
                rounds.append(made)
            else:
                rounds.append(Round(stage=split(keys[0])[1], answers=dict.fromkeys(keys), failures={}))
                story.heard[keys[0]] = Heard(broken=made)
        for (story, _), judgements in zip(open_rounds, self._judged(rounds), strict=True):
            for judgement in judgements:
                heard = story.heard.get(judgement.key) or judgement.heard
                story.heard[judgement.key] = heard
                batch.entries += _entries(story.asked[judgement.key].row, replace(judgement, heard=heard))
        causes = {story.root: story.asked[keys[0]] for story, keys in open_rounds}
        for story in stories:
            if story.root in causes:
                self._tell(story, causes[story.root], now, batch)
        return batch

    def read(self, root: int) -> Story:
        """A story as it stands in the record."""
        custom_id, line, offset, length = self._stories.place(root)
        prompts = self._stories.prompts(root)
        asked = {prompt.key or self._first: prompt for prompt in prompts}
        keys = {prompt.row: key for key, prompt in asked.items()}
        return Story(
            root=root,
            custom_id=custom_id,
            fields=self._reader.fields(offset, length, line),
            asked=asked,
            heard=heard_of(self._stories.found(root), keys),
            has_ended=self._stories.ended(root) is not None,
        )

    def _judged(self, rounds: list[Round]) -> list[list[Judgement]]:
        assert self._judge is not None, "this storyteller only reads"
        return self._judge.judge(rounds)

    def told(self, story: Story) -> Told:
        return tell(self._recipe, story.heard)

    def openings(self, root: int, custom_id: str, fields: dict[str, Any]) -> list[tuple[object, ...]]:
        """The prompts of a story that are asked at once besides the input row's own, as entries of the record.

        Raises `RowFault` if a template doesn't go with the row.
        """
        asks = tell(self._recipe, {}).asks[1:]
        return [self._birth(ask, custom_id, root, 0, fields, 0.0)[1] for ask in asks]

    def _complete(self, story: Story) -> Iterable[list[str]]:
        """The rounds of which every prompt has its final word, and none was judged."""
        if story.root in self._refused:  # its other prompts were never written, so there is nothing to wait for
            yield [self._first]
            return
        seen: set[str] = set()
        for key, prompt in story.asked.items():
            if key in story.heard or key in seen or not prompt.is_final:
                continue
            keys = round_keys(self._recipe, key)
            seen.update(keys)
            if all(each in story.asked and story.asked[each].is_final for each in keys):
                yield keys

    def _round(self, story: Story, keys: list[str]) -> Round | str:
        """What is to be judged of a round; text that says why it can't be."""
        about, name, turn, _ = split(keys[0])
        of = _item(story, about) if about else None
        try:
            reference = self._asking.reference(self._recipe.stage(name), story.fields, of)
        except RowFault as fault:
            if any(story.asked[key].text is not None for key in keys):
                return f"stage {name!r}, reference: {fault}"
            reference = ""  # the row could not even be asked, and that is its failure
        prompts = {key: story.asked[key] for key in keys}
        items = tell(self._recipe, story.heard).items if turn > 1 else ()
        kept = [each for each in items if (each.stage, each.about) == (name, about)]
        return Round(
            stage=name,
            answers={key: prompt.text for key, prompt in prompts.items()},
            failures={key: f"{each.kind}: {each.message}" for key, each in prompts.items() if each.text is None},
            reference=reference,
            others=tuple(each.item.text for each in kept if each.label in ("accepted", "spare")),
            fields=texts_of(story.fields),
        )

    def _tell(self, story: Story, cause: Prompt, now: float, batch: Batch) -> None:
        """Adds the prompts that a story asks next, or how it ended."""
        told = self._refusal(story) if story.root in self._refused else self.told(story)
        births: dict[str, _Birth] = {}
        while unwritten := self._write(story, told, births, cause, now):
            batch.entries += unwritten
            told = self.told(story)
        for ask in told.asks:  # in their order, and without the rounds of which one couldn't be written
            if ask.key in births:
                arrived, values = births[ask.key]
                batch.arrived.append(arrived)
                batch.entries.append(("request", values))
        if told.outcome is not None:
            batch.ended += 1
            batch.entries.append(Ended(story.root, told.outcome, told.rounds, told.reasons).entry())

    def _write(self, story: Story, told: Told, births: dict[str, _Birth], cause: Prompt, now: float) -> list[Entry]:
        """Adds the prompts that are new to `births`.

        Stops at one that can't be written: the story hears that its round can't be asked, and that is returned.
        """
        for ask in told.asks:
            if ask.key in story.asked or ask.key in births:
                continue
            try:
                births[ask.key] = self._birth(ask, story.custom_id, cause.row, cause.depth + 1, story.fields, now)
            except RowFault as fault:
                reason, number = f"stage {ask.stage!r}: {fault}", -len(story.heard.keys() - story.asked.keys())
                keys = round_keys(self._recipe, ask.key)
                story.heard |= dict.fromkeys(keys, Heard(broken=reason))
                found = (_whole(story.root, UNWRITTEN, reason, number - at, key) for at, key in enumerate(keys, 1))
                return [each.entry() for each in found]
        return []

    def _refusal(self, story: Story) -> Told:
        """How the story of a row ends that can't be asked: with what is wrong with it."""
        return Told(asks=(), items=(), outcome="failed", rounds=1, reasons=(story.heard[self._first].reason,))

    def _birth(self, ask: Ask, custom_id: str, parent: int, depth: int, fields: dict[str, Any], now: float) -> _Birth:
        row = self._asking.row(ask, fields)
        number, self._next_row = self._next_row, self._next_row + 1
        length = predict(row.asked, row.sampling.max_tokens)
        body = msgspec.json.encode(Body(row.prompt, row.messages, row.sampling, row.raw))
        values = (number, f"{custom_id}/{ask.key}", 0, 0, 0, length, 0, parent, depth, ask.key, body)
        return Arrived(now, number, length, 0), values


def heard_of(found: Iterable[Found], keys: dict[int, str]) -> dict[str, Heard]:
    """What was heard of each prompt, from what was found in its answer; `keys` names the prompts by row."""
    heard: dict[str, Heard] = {}
    for each in found:
        if each.number < 0:
            heard[each.text] = Heard(broken=each.reasons[0])
            continue
        if each.number == 0:
            reason = each.reasons[0] if each.reasons else ""
            is_broken = each.role == BROKEN
            heard[keys[each.row]] = Heard(
                reason="" if is_broken else reason,
                is_answered=each.role != FAILED,
                broken=reason if is_broken else "",
            )
            continue
        item = Judged(
            number=each.number,
            role=each.role,
            text=each.text,
            data=each.data,
            passed=each.passed,
            value=each.value,
            merit=each.merit,
            reasons=each.reasons,
        )
        whole = heard[keys[each.row]]
        heard[keys[each.row]] = replace(whole, items=(*whole.items, item))
    return heard


def _item(story: Story, key: str) -> Judged:
    prompt, _, number = key.rpartition("#")
    return next(item for item in story.heard[prompt].items if item.number == int(number))


def _entries(row: int, judgement: Judgement) -> list[Entry]:
    """A judgement as entries: the answer itself, its items, and their scores."""
    heard = judgement.heard
    role = BROKEN if heard.broken else "" if heard.is_answered else FAILED
    reason = heard.broken or heard.reason
    entries = [_whole(row, role, reason).entry()]
    for item in heard.items:
        found = Found(
            row=row,
            number=item.number,
            role=item.role,
            text=item.text,
            data=item.data,
            passed=item.passed,
            value=item.value,
            merit=item.merit,
            reasons=item.reasons,
        )
        entries.append(found.entry())
    for number, score in judgement.scores:
        entries.append(Scored(row, number, score.validator, score.value, score.passed, score.reason).entry())
    return entries


def _whole(row: int, role: str, reason: str, number: int = 0, text: str = "") -> Found:
    return Found(
        row=row,
        number=number,
        role=role,
        text=text,
        data={},
        passed=not role,
        value=None,
        merit=0.0,
        reasons=(reason,) if reason else (),
    )


def _late(story: Story) -> list[Entry]:
    """Prompts that were under way when their story ended, as in earlier versions: nothing depends on them."""
    return [
        _whole(prompt.row, "", "The story had ended.").entry()
        for key, prompt in story.asked.items()
        if prompt.is_final and key not in story.heard
    ]

"""Episodes: objects with an `episode_id` and `dialogs`, each of which has a `question` and an `answer`.

Each dialog is a row, called by its episode and its number in it, from 1. Dialogs whose answers are too short to be
worth a row are skipped and counted; their numbers stay theirs. An episode as it was read stands before its rows in the
spool, on a line that begins with a mark, so that it can be written again with what was found, also if it came from a
pipe or its file is gone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenmill.validate.words import words
from tokenmill.workload.faults import RowFault, shown
from tokenmill.workload.layout import checked_id
from tokenmill.workload.pieces import Piece
from tokenmill.workload.spooled import SpooledFeed
from tokenmill.workload.strict_json import parse_object
from tokenmill.workload.tables import encode

EPISODES = "episodes"
#: An answer of fewer words is no instruction.
MIN_WORDS = 3
#: Fields of a row that are the episode's, whatever the dialog has under these names.
OURS = ("custom_id", "episode_id", "dialog", "episode")
_MARK = b"#"


def is_episode(row: Mapping[str, object]) -> bool:
    """Whether an object is one, or would be if it had dialogs; nothing else has both fields."""
    return "episode_id" in row and isinstance(row.get("dialogs", ...), list | None)


def skipped_words(count: int) -> str:
    """What is told of dialogs that were skipped."""
    if count == 1:
        return f"1 dialog is skipped, as its answer has fewer than {MIN_WORDS} words"
    return f"{count} dialogs are skipped, as their answers have fewer than {MIN_WORDS} words"


class EpisodeFeed(SpooledFeed):
    """The dialogs of episodes as rows."""

    def __iter__(self) -> Iterator[Piece]:
        spool = self.spool
        for number, data in self.records:
            try:
                if isinstance(data, RowFault):
                    raise data
                episode = parse_object(data, 0)
                rows = _rows(episode)
            except RowFault as fault:
                yield number, spool.size, b"", str(fault)
                continue
            spool.write(_MARK + data + b"\n")
            for row in rows:
                if row is None:
                    self.skipped += 1
                    continue
                offset = spool.size
                if isinstance(row, RowFault):
                    yield number, offset, b"", str(row)
                    continue
                spool.write(row + b"\n")
                yield number, offset, row, None

    def within(self, custom_id: str | None, /) -> str:
        episode, _, number = (custom_id or "").rpartition("/")
        return f"{_place(episode, int(number))}: " if number else ""


def _rows(episode: Mapping[str, Any]) -> Iterator[bytes | RowFault | None]:
    """A row for each dialog of an episode; None for one that is skipped. Raises `RowFault` if it is no episode."""
    name = _name(episode.get("episode_id"))
    dialogs = episode.get("dialogs")
    if dialogs is None:
        raise RowFault(f"episode {shown(name)}: dialogs is missing; give a list of objects with question and answer")
    if not isinstance(dialogs, list):
        raise RowFault(f"episode {shown(name)}: dialogs must be a list of objects, not {shown(dialogs)}")
    if not dialogs:
        raise RowFault(f"episode {shown(name)}: dialogs is empty; add one with question and answer, or remove it")
    about = {key: value for key, value in episode.items() if isinstance(value, str | int | float)}
    del about["episode_id"]
    return (_row(name, number, dialog, about) for number, dialog in enumerate(dialogs, 1))


def _name(value: object) -> str:
    if value is None:
        raise RowFault("episode_id is missing; give each episode its own")
    name = str(value) if type(value) is int else checked_id("episode_id", value)
    assert name is not None
    return name


def _row(name: str, number: int, dialog: object, about: Mapping[str, object]) -> bytes | RowFault | None:
    place = _place(name, number)
    if not isinstance(dialog, dict):
        return RowFault(f"{place} must be an object with question and answer, not {shown(dialog)}")
    answer, question = dialog.get("answer"), dialog.get("question")
    if answer is None:
        return RowFault(f"{place}: answer is missing; the dialog has {shown(', '.join(dialog))}; add a text, or ''")
    if not isinstance(answer, str):
        return RowFault(f"{place}: answer must be a string, not {shown(answer)}")
    if question is not None and not isinstance(question, str):
        return RowFault(f"{place}: question must be a string, not {shown(question)}")
    if len(words(answer)) < MIN_WORDS:
        return None
    row = {"custom_id": f"{name}/{number}", "episode_id": name, "dialog": number}
    row |= {key: value for key, value in dialog.items() if key not in OURS}
    try:
        return encode({**row, "episode": about})
    except RowFault as fault:
        return RowFault(f"{place}: {fault}")


def _place(name: str, number: int) -> str:
    return f"episode {shown(name)}, dialog {number}"


class Episodes:
    """The episodes of a spool, as they were read, to be filled with what was found of their rows.

    Those of which no row is given are left out; in the others the dialogs that are no rows stay as they are.
    """

    def __init__(self, spool: Path, place: Callable[[int], tuple[int, int]]) -> None:
        """`place` tells offset and length of a row."""
        self._file = spool.open("rb")
        self._place = place
        self._episode: dict[str, Any] | None = None
        self._is_wanted = False

    def add(self, root: int, name: str, value: object) -> Iterator[dict[str, Any]]:
        """Puts a field into the dialog of a row; yields the episodes before it. Rows come in the order of the input."""
        offset, length = self._place(root)
        if not length:  # a dialog at fault, of which there is no row
            return
        while (at := self._file.tell()) < offset:
            line = self._file.readline()
            assert line, "the spool ends before a row of the record"
            if line.startswith(_MARK):
                yield from self.rest()
                self._episode = json.loads(line[len(_MARK) :])
        assert at == offset, "a row begins where none was written"
        assert self._episode is not None, "a row has no episode before it"
        number = json.loads(self._file.readline())["dialog"]
        self._episode["dialogs"][number - 1][name] = value
        self._is_wanted = True

    def rest(self) -> Iterator[dict[str, Any]]:
        """The episode that is under way, if a row of it was given."""
        if self._episode is not None and self._is_wanted:
            yield self._episode
        self._episode, self._is_wanted = None, False

    def close(self) -> None:
        self._file.close()

"""How far the stories of a run with a recipe are, for commands that show runs."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from tokenmill.record.folder import Manifest
from tokenmill.record.store import Counts, Record
from tokenmill.record.stories import Stories

OUTCOMES = ("success", "short", "failed")


class StoryCounts(Struct, frozen=True, kw_only=True):
    """Input rows by how they ended, those that haven't, and the rows by the rounds that they took."""

    rows: int
    success: int
    short: int
    failed: int
    unfinished: int
    rounds: dict[int, int]

    @property
    def ended(self) -> int:
        return self.rows - self.unfinished

    @property
    def outcomes(self) -> str:
        named = {"success": self.success, "short": self.short, "failed": self.failed, "to go": self.unfinished}
        return ", ".join(f"{number} {name}" for name, number in named.items() if number)


def stories_in(path: Path, manifest: Manifest) -> StoryCounts | None:
    """The counts of the record at `path`; None for a run without a recipe."""
    if not manifest.options.get("pipeline"):
        return None
    stories = Stories(path)
    try:
        ends = stories.ends()
    finally:
        stories.close()
    by_outcome = {name: sum(count for (outcome, _), count in ends.items() if outcome == name) for name in OUTCOMES}
    rounds: dict[int, int] = {}
    for (_, turn), count in ends.items():
        rounds[turn] = rounds.get(turn, 0) + count
    unfinished = manifest.rows - sum(by_outcome.values())
    return StoryCounts(rows=manifest.rows, **by_outcome, unfinished=unfinished, rounds=dict(sorted(rounds.items())))


def is_open(record: Record, counts: Counts, manifest: Manifest) -> bool:
    """Whether something is left to be asked, or to be judged."""
    return counts.unfinished > 0 or (bool(manifest.options.get("pipeline")) and record.has_unjudged())

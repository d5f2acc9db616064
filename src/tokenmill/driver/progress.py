"""How far a run is, for whoever watches it."""

from __future__ import annotations

from msgspec import Struct


class Progress(Struct, kw_only=True):
    """Counters of one session; `answered` and `output_tokens` count only what is committed.

    `ended`: input rows that have all they get, in a run with a recipe, where `rows` are prompts and become more. `up`:
    nodes that can take requests. `notes`: what happened to nodes, in words, each to be told once.
    """

    rows: int
    answered: int = 0
    ended: int = 0
    running: int = 0
    up: int = 0
    output_tokens: int = 0
    failed: dict[str, int] = {}
    stopping: bool = False
    notes: list[str] = []

    @property
    def failed_total(self) -> int:
        return sum(self.failed.values())

"""How many prompts a recipe may come to for one input row, before anything is known of the answers."""

from __future__ import annotations

from msgspec import Struct

from tokenmill.pipeline.recipe import Recipe, Stage


class Prospect(Struct, frozen=True, kw_only=True):
    """What one stage may ask for one row. `about`: the stage whose items it is asked about, empty for the row itself.

    `units`: the most things it is asked about, `prompts` the most prompts; None where answers may hold any number of
    items.
    """

    stage: str
    about: str
    judges: bool
    rounds: int
    samples: int
    targets: dict[str, int]
    units: int | None
    prompts: int | None


def prospects(recipe: Recipe) -> list[Prospect]:
    """The stages, each after the one whose items it is asked about."""
    found: list[Prospect] = []
    for stage in recipe.about_rows():
        _add(recipe, stage, 1, found)
    return found


def most_prompts(recipe: Recipe) -> int | None:
    """The most prompts of one row; None if there is no such number."""
    total = 0
    for each in prospects(recipe):
        if each.prompts is None:
            return None
        total += each.prompts
    return total


def _add(recipe: Recipe, stage: Stage, units: int | None, found: list[Prospect]) -> None:
    prompts = None if units is None else units * recipe.rounds_of(stage) * stage.n
    found.append(
        Prospect(
            stage=stage.name,
            about=stage.of or "",
            judges=stage.judges,
            rounds=recipe.rounds_of(stage),
            samples=stage.n,
            targets={} if stage.judges else stage.targets,
            units=units,
            prompts=prompts,
        )
    )
    items = _items(stage)
    judged = None if prompts is None or items is None else prompts * items
    accepted = judged if stage.keep == "all" else None if units is None else units * sum(stage.targets.values())
    for after in recipe.stages:
        if after.of == stage.name:
            _add(recipe, after, judged if after.judges else accepted, found)


def _items(stage: Stage) -> int | None:
    """The most items that one answer holds; None if it may hold any number."""
    if stage.parse.kind == "sections":
        return sum(map(len, stage.parse.labels.values()))
    return None if stage.parse.kind in ("lines", "json") else 1

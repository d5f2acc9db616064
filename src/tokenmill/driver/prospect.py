"""What a recipe would ask, before it asks: its stages, how many prompts, and the first one as it would be sent."""

from __future__ import annotations

from msgspec import Struct

from tokenmill.cluster import EngineFacts
from tokenmill.driver.check_recipe import refusal
from tokenmill.driver.source import RowSource
from tokenmill.engine import Engine
from tokenmill.pipeline.prospect import Prospect, most_prompts, prospects
from tokenmill.pipeline.recipe import Recipe
from tokenmill.record.store import Record


class Outlook(Struct, kw_only=True):
    """`rows` are input rows. `least` and `most` are prompts, retries aside; `most` is None where answers may hold any
    number of items that are asked about. `sample` is the first prompt, of row `sample_id`, and `system` what comes
    before it. `is_continued`: the model has no chats, so each prompt is continued as it stands.
    """

    recipe: str
    embedding: str | None
    rows: int
    stages: list[Prospect]
    least: int
    most: int | None
    sample_id: str = ""
    system: str = ""
    sample: str = ""
    is_continued: bool = False


def outlook(recipe: Recipe, rows: int, record: Record, source: RowSource, node: tuple[Engine, EngineFacts]) -> Outlook:
    """The outlook of a prepared run; `rows` are those that can be sent."""
    engine, facts = node
    most = most_prompts(recipe)
    found = Outlook(
        recipe=recipe.name,
        embedding=recipe.embedding,
        rows=rows,
        stages=prospects(recipe),
        least=rows * sum(stage.n for stage in recipe.about_rows()),
        most=None if most is None else rows * most,
        is_continued=facts.counts_exactly and bool(refusal(engine, "chat")),
    )
    first = next(record.unfinished(), None)
    if first is not None:
        request = source.fetch(first[0])
        said = {turn.role: turn.content for turn in request.messages}
        found.sample_id = request.custom_id
        found.system = said.get("system", "")
        found.sample = request.prompt or said.get("user", "")
    return found

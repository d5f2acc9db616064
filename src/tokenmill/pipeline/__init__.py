"""Data sets that pass their own checks: what a recipe asks for, how answers are read, and how the story of a row goes.

Everything here is pure. A recipe names stages; a stage has a prompt, a parser and checks. The story of an input row is
a function of what was heard so far: it says what is to be asked next, what is accepted, and how it ended.

Recipes are read by `tokenmill.pipeline.read`, which isn't imported here: most runs don't need its templates.
"""

from __future__ import annotations

from tokenmill.pipeline.parse import Parsed, Piece, parse
from tokenmill.pipeline.recipe import Check, Parser, Recipe, Stage
from tokenmill.pipeline.story import Ask, Heard, Judged, Told, tell

__all__ = [
    "Ask",
    "Check",
    "Heard",
    "Judged",
    "Parsed",
    "Parser",
    "Piece",
    "Recipe",
    "Stage",
    "Told",
    "parse",
    "tell",
]

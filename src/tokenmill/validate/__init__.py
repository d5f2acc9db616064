"""Whether a text is what was asked for: validators, each pure, each with a score that has a name and a reason.

A validator is made by its kind and options, which are data, and judges items in batches. The score of an item depends
on that item alone and never on what else is in the batch, so it doesn't matter when a text is judged, nor beside which.
Nothing here asks a model: vectors come through a seam, and a stage of a recipe asks where a language model judges.
"""

from tokenmill.validate.registry import kinds, validator
from tokenmill.validate.score import Embed, Item, Score, Validator

__all__ = ["Embed", "Item", "Score", "Validator", "kinds", "validator"]

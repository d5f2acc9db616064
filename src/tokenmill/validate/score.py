"""What is judged, and what a judgement says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    import numpy as np

#: Texts in, one vector each out: [texts, dimensions], in their order. May raise, as the model behind it may be gone.
Embed: TypeAlias = "Callable[[Sequence[str]], np.ndarray]"


class Item(Struct, frozen=True, kw_only=True):
    """A text to judge, and what it is judged against.

    `reference`: the text that it was made from, such as the instruction that it paraphrases. `role`: what it is meant
    to be, such as `positive` or `negative`. `others`: texts that it mustn't repeat, such as the items of its row that
    were accepted before. `fields`: more texts by name, such as the context of a question, and a judge's answer under
    the name of its validator. `scores`: what validators found so far, by name, for those that build on others, and
    `reasons`: what they said of it.
    """

    text: str
    reference: str = ""
    role: str = ""
    others: tuple[str, ...] = ()
    fields: dict[str, str] = {}
    scores: dict[str, float | None] = {}
    reasons: dict[str, str] = {}


class Score(Struct, frozen=True, kw_only=True):
    """What one validator, called `validator`, found in one item.

    `value` is None where there is nothing to measure, as the agreement of directions where none is named; `reason`
    says why. Where the item didn't pass, `reason` is a sentence that can go into the next prompt as it stands.
    """

    validator: str
    value: float | None
    passed: bool
    reason: str = ""


class Validator(Protocol):
    """Judges items: pure, in batches, one score each in their order. An item's score depends on that item alone.

    `name` is unique among the validators of one recipe. `needs` are names of validators whose values must stand in
    `Item.scores` before this one is asked.
    """

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    def check(self, items: Sequence[Item]) -> list[Score]: ...

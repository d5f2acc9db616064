"""Whether a text names the same landmarks as its reference."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import field

from tokenmill.validate.bounds import Bounds
from tokenmill.validate.kind import Kind
from tokenmill.validate.landmarks import Landmark, agreement, gazetteer
from tokenmill.validate.score import Item, Score

_SAID = 8


class LandmarkOptions(Bounds, frozen=True, kw_only=True):
    """`more`: landmarks besides those that come with the package, each with other words for it."""

    more: dict[str, tuple[str, ...]] = field(default_factory=dict)


class LandmarkAgreement:
    """Measures how well the landmarks of a text agree with those of its reference, 0 to 1."""

    needs = ()

    def __init__(self, name: str, options: LandmarkOptions) -> None:
        self.name = name
        self._options = options
        self._gazetteer = gazetteer(options.more)

    def check(self, items: Sequence[Item]) -> list[Score]:
        # Items of one row come together, and each text is read once.
        texts = {text for item in items for text in (item.text, item.reference)}
        found = {text: self._gazetteer.landmarks(text) for text in texts}
        return [self._one(found[item.reference], found[item.text]) for item in items]

    def _one(self, reference: Sequence[Landmark], text: Sequence[Landmark]) -> Score:
        value = agreement(self._gazetteer, reference, text)
        if value is None:
            detail = "Neither text names a landmark."
        elif value == 1:
            detail = ""
        else:
            detail = f"The reference has {_said(reference)} and the text has {_said(text)}."
        return self._options.score(self.name, "The agreement of landmarks", value, detail)


def _said(found: Sequence[Landmark]) -> str:
    names = [str(one)[:40] for one in found[:_SAID]]
    return ", ".join(names) + (" and more" if len(found) > _SAID else "") if names else "no landmark"


KIND = Kind(LandmarkOptions, LandmarkAgreement, scale=(0.0, 1.0), compares=True)

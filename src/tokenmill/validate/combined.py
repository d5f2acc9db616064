"""One number out of several scores: their weighted mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import field

from tokenmill.validate.bounds import Bounds
from tokenmill.validate.kind import Kind
from tokenmill.validate.score import Item, Score

#: Meaning counts most; of what can be checked word by word, directions and landmarks decide where one ends up.
WEIGHTS = {"embedding": 0.4, "direction": 0.3, "landmark": 0.3}


class CombinedOptions(Bounds, frozen=True, kw_only=True):
    """`weights` by the names of validators; they needn't sum to 1."""

    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))

    def faults(self) -> Iterable[str]:
        yield from super().faults()
        if not self.weights:
            yield "weights are empty; name at least one validator"
        for name, weight in self.weights.items():
            if not 0 < weight <= 1_000_000:
                yield f"the weight {weight:g} of {name!r} must be above 0, and at most 1000000"


def mean(scores: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """The mean of the scores that have a value, each held to 0 to 1, by their weights; None if none has."""
    known = [
        (max(0.0, min(1.0, value)), weight)
        for name, weight in weights.items()
        if (value := scores.get(name)) is not None
    ]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if known else None


class Combined:
    """Measures the weighted mean of other scores, 0 to 1; those without a value are left out, with their weight."""

    def __init__(self, name: str, options: CombinedOptions) -> None:
        self.name = name
        self.needs = tuple(options.weights)
        self._options = options

    def check(self, items: Sequence[Item]) -> list[Score]:
        return [self._one(item) for item in items]

    def _one(self, item: Item) -> Score:
        value = mean(item.scores, self._options.weights)
        detail = f"None of {', '.join(self.needs)} has a value." if value is None else ""
        return self._options.score(self.name, f"The mean of {', '.join(self.needs)}", value, detail)


KIND = Kind(CombinedOptions, Combined, scale=(0.0, 1.0))

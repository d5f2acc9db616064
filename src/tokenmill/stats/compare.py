"""An old measurement against a new one: is the new side a regression? By effect and interval, not by either alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, log1p
from typing import Literal

from msgspec import Struct

from tokenmill.stats.claim import Claim
from tokenmill.stats.interval import LEVEL, paired_ratio, unpaired_ratio

#: The least effect that matters: with many repeats even a thousandth can be shown, and nobody should wake up for it.
LEAST = 0.02

Judgement = Literal["regression", "improvement", "no change", "n/a"]


class Comparison(Struct, frozen=True, kw_only=True):
    """A `claim` on the new side against the old one, and the `least` effect that counts, as a share."""

    claim: Claim
    least: float = LEAST

    @property
    def judgement(self) -> Judgement:
        """A regression or an improvement, if the interval excludes 1 and the effect is at least `least` either way."""
        finding, ratio = self.claim.finding, self.claim.ratio.value
        if finding == "n/a" or ratio is None:
            return "n/a"
        if finding == "no difference" or abs(log(ratio)) < log1p(self.least):
            return "no change"
        return "improvement" if finding == "better" else "regression"

    @property
    def is_regression(self) -> bool:
        return self.judgement == "regression"


def compare(
    old: Sequence[float],
    new: Sequence[float],
    *,
    paired: bool = False,
    less_is_better: bool = True,
    least: float = LEAST,
    level: float = LEVEL,
    words: tuple[str, str] = ("faster", "slower"),
) -> Comparison:
    """Compares the repeats of one figure: seconds, or bytes, or a rate if not `less_is_better`.

    `paired` means that old[i] and new[i] were measured in turns; results of different days are not. An effect of 0.02
    is 2 % more seconds, or the same loss of a rate. `words` are said for better and worse. Of many figures compared at
    once some will differ by chance, about one in forty in each direction: for m of them, level = 1 - 0.05 / m keeps the
    chance of any false alarm below 5 % (Bonferroni).

    Raises:
        ValueError: pairs were asked for, and the sides are not of one length.
        UsageError: scipy isn't installed.
    """
    these, those = (old, new) if less_is_better else (new, old)
    ratio = paired_ratio(these, those, level=level) if paired else unpaired_ratio(these, those, level=level)
    better, worse = words
    return Comparison(claim=Claim(ratio=ratio, better=better, worse=worse), least=least)

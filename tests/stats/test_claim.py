"""Claims: the sentence, and when there is none."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stats.noise import repeats
from tokenmill.stats.claim import Claim
from tokenmill.stats.interval import Interval, paired_ratio, unpaired_ratio


def measured(value: float, low: float, high: float, count: int = 5) -> Claim:
    return Claim(ratio=Interval(value=value, low=low, high=high, unit="", counts=(count,), counted="pairs"))


@pytest.mark.parametrize(
    ("claim", "finding", "said"),
    [
        (measured(1.041, 1.02, 1.06), "better", "4.1 % faster, 95 % interval 2 to 6 %, n = 5 pairs"),
        (measured(0.95, 0.93, 0.97), "worse", "5.0 % slower, 95 % interval 3 to 7 %, n = 5 pairs"),
        (measured(1.01, 0.98, 1.04), "no difference", "no difference shown, 95 % interval -2 to 4 %, n = 5 pairs"),
        (measured(1.0, 1.0, 1.0), "no difference", "no difference shown, 95 % interval 0.0 to 0.0 %, n = 5 pairs"),
        (measured(1.02, 1.0004, 1.04), "better", "2.000 % faster, 95 % interval 0.04 to 4.00 %, n = 5 pairs"),
        (measured(4.0, 3.0, 5.0), "better", "faster by a factor of 4.0, 95 % interval 3 to 5, n = 5 pairs"),
        (measured(0.25, 0.2, 0.5), "worse", "slower by a factor of 4.0, 95 % interval 2 to 5, n = 5 pairs"),
        (measured(1.3, 1.2, 1.4, count=4), "n/a", "n/a: a claim needs 5 pairs, there are 4 pairs"),
    ],
)
def test_the_sentence(claim: Claim, finding: str, said: str) -> None:
    """A claim says the effect, its interval and its repeats, or why there is none."""
    assert claim.finding == finding
    assert str(claim) == said


def test_other_words() -> None:
    """What is compared names its own better and worse."""
    ratio = unpaired_ratio([2.0, 2.02, 2.01, 1.99, 1.98], [2.2, 2.21, 2.19, 2.18, 2.22, 2.2])

    said = str(Claim(ratio=ratio, better="less memory", worse="more memory"))

    assert "% more memory, 95 % interval" in said
    assert said.endswith("n = 5 and 6 repeats")


def test_a_broken_repeat_allows_no_claim() -> None:
    """A run that measured nothing leaves its reason in place of a claim."""
    claim = Claim(ratio=paired_ratio([1.0, 1.0, 1.0, 1.0, 0.0], [1.0] * 5))

    assert str(claim) == "n/a: repeat 5 measured 0, and a ratio needs values above zero"


def test_rounding_is_no_difference() -> None:
    """Two sides that differ only in the last bits of their numbers are equal."""
    assert Claim(ratio=paired_ratio([0.1 + 0.2] * 5, [0.3] * 5)).finding == "no difference"


def test_false_claims_are_as_rare_as_the_level_says() -> None:
    """Of 2,000 claims about equal sides, 3 to 7 % find a difference."""
    random = Random(17)
    claims = [Claim(ratio=paired_ratio(repeats(random, 1, 5), repeats(random, 1, 5))) for _ in range(2000)]

    assert 0.03 <= sum(claim.finding != "no difference" for claim in claims) / 2000 <= 0.07


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=5, max_size=9))
def test_swapped_sides_swap_the_finding(pairs: list[tuple[float, float]]) -> None:
    """What is better seen from one side is worse seen from the other."""
    these, those = [this for this, _ in pairs], [that for _, that in pairs]
    swapped = {"better": "worse", "worse": "better", "no difference": "no difference"}

    finding = Claim(ratio=paired_ratio(these, those)).finding

    assert Claim(ratio=paired_ratio(those, these)).finding == swapped[finding]


@given(st.floats(0.05, 20), st.floats(1e-6, 2))
def test_a_claim_never_shows_an_end_at_zero(value: float, reach: float) -> None:
    """An interval that excludes no difference doesn't look as if it included it."""
    claim = measured(value, value / (1 + reach), value * (1 + reach))

    if claim.finding in ("better", "worse") and "factor" not in str(claim):
        low = float(str(claim).split("interval ")[1].split(" to ")[0])
        assert low > 0

"""Old against new: slowdowns are found, and chance raises few alarms."""

from __future__ import annotations

from random import Random

import pytest

from stats.noise import repeats
from tokenmill.stats.compare import compare

TRIALS = 200


@pytest.mark.parametrize("paired", [True, False])
def test_a_slowdown_of_five_percent_is_found(paired: bool) -> None:
    """At 2 % noise and 20 repeats, at least 90 % of 200 slowdowns of 5 % are called a regression."""
    random = Random(1)

    found = [compare(repeats(random, 10.0, 20), repeats(random, 10.5, 20), paired=paired) for _ in range(TRIALS)]

    assert sum(one.is_regression for one in found) >= 0.9 * TRIALS


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("least", [0.02, 0.0])
def test_few_alarms_without_a_change(paired: bool, least: float) -> None:
    """At 2 % noise and 20 repeats, at most 17 of 200 comparisons of equal sides find a change."""
    random = Random(2)

    found = [
        compare(repeats(random, 10.0, 20), repeats(random, 10.0, 20), paired=paired, least=least) for _ in range(TRIALS)
    ]

    assert sum(one.judgement != "no change" for one in found) <= 17


def test_the_effect_counts_and_not_the_interval_alone() -> None:
    """A difference that is certain and too small to matter is no change; the claim still tells it."""
    old, new = [100.0, 100.1, 99.9, 100.0, 100.1], [101.0, 101.1, 100.9, 101.0, 101.1]

    found = compare(old, new)

    assert found.claim.finding == "worse"
    assert found.judgement == "no change"
    assert compare(old, new, least=0.005).judgement == "regression"


def test_a_rate_is_better_when_it_is_more() -> None:
    """The same numbers are a regression of seconds and an improvement of tokens a second."""
    old, new = [10.0, 10.1, 9.9, 10.0, 10.1], [12.0, 12.1, 11.9, 12.0, 12.1]

    assert compare(old, new).judgement == "regression"
    assert compare(old, new, less_is_better=False).judgement == "improvement"


def test_the_least_effect_counts_in_both_directions() -> None:
    """An effect beyond the least one is a change, better or worse; one below it is none."""
    assert compare([1.0] * 5, [1.03] * 5, least=0.02).judgement == "regression"
    assert compare([1.03] * 5, [1.0] * 5, least=0.02).judgement == "improvement"
    assert compare([1.0] * 5, [1.01] * 5, least=0.02).judgement == "no change"


def test_too_few_repeats_judge_nothing() -> None:
    """Fewer than five repeats on one side give n/a and the reason."""
    found = compare([1.0] * 5, [2.0] * 4)

    assert found.judgement == "n/a"
    assert found.claim.reason == "a claim needs 5 repeats, there are 5 and 4 repeats"


def test_words_for_memory() -> None:
    """What is compared may be bytes, and then the claim says so."""
    found = compare([4e9] * 5, [12e9] * 5, words=("smaller", "larger"))

    assert str(found.claim).startswith("larger by a factor of 3.0")

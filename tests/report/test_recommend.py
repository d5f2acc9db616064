"""What a report advises, and the evidence that it gives for it."""

from __future__ import annotations

import pytest

from report.scripted import attempt, facts, node, stored, waves
from tokenmill.event import FAILURE_KINDS
from tokenmill.report.certificate import Certificate, certify
from tokenmill.report.facts import Shared
from tokenmill.report.recommend import OTHER, Advice, remedy


def advice_of(certificate: Certificate) -> dict[str, Advice]:
    return {advice.name: advice for advice in certificate.advice}


def test_a_tail_is_answered_with_another_order() -> None:
    """Slots that run empty at the end ask for long answers first, and the seconds lost are the evidence."""
    found = advice_of(certify(facts(14, node(4, load=1.0)), waves(13, 4, start=1.0)))["tail"]

    assert "--order longest-first" in found.text
    assert found.evidence[0].startswith("the tail cost ")


def test_an_order_in_use_is_not_advised() -> None:
    """A run that began with long answers isn't told to."""
    found = advice_of(certify(facts(14, node(4), order="packed"), waves(13, 4)))["tail"]

    assert "--order" not in found.text


def test_more_slots_than_rows_can_use_are_named() -> None:
    """With fewer than two rows a slot there is nothing to order; fewer slots or more rows are."""
    found = advice_of(certify(facts(5, node(4)), waves(5, 4)))["tail"]

    assert "4 slots can't stay busy with 5 rows" in found.text


def test_a_loop_is_told_to_stop_being_one() -> None:
    """A loop that calls itself parallel is named first, with overlap and width as evidence."""
    known = stored(decode=40.0, single_stream=0.05, width=4.0)
    certificate = certify(facts(8, node(4), stored=known), waves(8, 1, width=1.0))

    assert certificate.advice[0].name == "sequential"
    assert "overlap 1.00" in certificate.advice[0].evidence[0]


def test_one_at_a_time_is_told_of_a_better_strategy() -> None:
    """Idle slots with rows waiting under strategy sequential are answered with its name."""
    known = stored(decode=40.0, single_stream=0.05, width=4.0)
    run = facts(8, node(4), stored=known, width_asked=1, strategy="sequential")

    assert "--strategy pull" in advice_of(certify(run, waves(8, 1, width=1.0)))["client"].text


def test_an_unknown_limit_asks_for_a_wider_run() -> None:
    """Where no width above 1 was measured there is no ratio, and the advice is to measure one."""
    assert "unknown-limit" in advice_of(certify(facts(4, node(1)), waves(4, 1)))


def test_parallel_requests_that_bring_nothing_are_advised_against() -> None:
    """A device on which one stream alone is as fast as many together gets one request at a time."""
    streams = [attempt(row, 0.0, 40.0, width=4.0) for row in range(4)] + [attempt(4, 40.0, 10.0, width=1.0)]

    found = advice_of(certify(facts(5, node(4)), streams))["parallel-pays-not"]

    assert found.evidence == ("one stream alone writes 9.90 tok/s, all together 10.0 tok/s at width 3.4",)


def test_a_device_that_batches_is_not_advised_against() -> None:
    """Four streams that together write four times as much as one are left alone."""
    assert "parallel-pays-not" not in advice_of(certify(facts(12, node(4)), waves(12, 4)))


@pytest.mark.parametrize(("gain", "low", "high", "word"), [(1.5, 0.4, 0.6, "Keep"), (0.9, -0.2, -0.01, "slower")])
def test_nodes_that_share_a_device_are_judged_by_their_interval(
    gain: float, low: float, high: float, word: str
) -> None:
    """A measured verdict becomes advice with its figures."""
    shared = Shared(
        nodes=("a", "b"), together=40 * gain, alone=40, low=low, high=high, is_worth_it=gain > 1, date="2026-01-01"
    )
    found = advice_of(certify(facts(12, node(4), node(4, name="b"), shared=(shared,)), waves(12, 4)))["shared a, b"]

    assert word in found.text
    assert "95 % interval" in found.evidence[0]


def test_a_run_at_its_bound_is_told_what_the_bound_is() -> None:
    """Where scheduling has nothing left to give, the limit itself is named."""
    found = certify(facts(12, node(4)), waves(12, 4)).advice

    assert [advice.name for advice in found] == ["limit-decode"]


def test_a_run_without_an_answer_says_why() -> None:
    """All failed: the classes with their counts, and the remedy of the most frequent one."""
    tries = [attempt(row, float(row), 0.5, outcome="failed") for row in range(3)]
    failed = {"busy": 1, "misconfigured": 2}

    (first, *_) = certify(facts(3, node(4), answered=0, failed=failed), tries).advice

    assert first.evidence == ("every request failed: 2 misconfigured, 1 busy",)
    assert "nodes check" in first.text


@pytest.mark.parametrize("kind", FAILURE_KINDS)
def test_every_class_of_failure_has_a_remedy(kind: str) -> None:
    """Nobody is left with a class name alone; unknown classes get a way to read on."""
    assert remedy(kind) != OTHER
    assert remedy("from elsewhere") == OTHER
